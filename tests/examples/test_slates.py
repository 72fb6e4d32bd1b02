"""The example of logged slates: estimators of value by enumeration, its tables, what it serves."""

import csv
import itertools
import json
import math
import subprocess
import sys
import types

import numpy as np
import pytest

import slate_logs
import slate_policies
import slates
from slate_logs import ClickModel, Log

ITEMS = 5


def written_campaign(root, rows=240, name="men"):
    """Writes a small campaign as the package has it: item 3 earns most of the clicks."""
    rng = np.random.default_rng(0)
    for policy in ("random", "bts"):
        folder = root / policy / name
        folder.mkdir(parents=True)
        with (folder / "item_context.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("", "item_id", *(f"item_feature_{j}" for j in range(4))))
            for a in reversed(range(ITEMS)):  # not in order
                table.writerow((a, a, -a / 10, "xy"[a % 2], "z", f"kind{a // 3}"))
        with (folder / f"{name}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            features = [f"user_feature_{j}" for j in range(4)]
            table.writerow(
                ("", "timestamp", "item_id", "position", "click", "propensity_score", *features)
            )
            for row in range(rows):
                item, second = int(rng.integers(ITEMS)), row * 86400 * 7 // rows
                start = np.datetime64("2019-11-24T00:00:00.500000")
                stamp = f"{start + second * np.timedelta64(1, 's')}+00:00".replace("T", " ")
                click = int(rng.random() < (0.6 if item == 3 else 0.05))
                user = ("ab"[row % 2], "c", "d", "e" if row else "seldom")
                place = 1 + int(rng.integers(3))
                table.writerow((row, stamp, item, place, click, 1 / ITEMS, *user))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return written_campaign(tmp_path_factory.mktemp("obd"))


@pytest.fixture(scope="module")
def campaign(root):
    return slate_logs.load("men", root)


def likelihood(scores, order):
    """The probability of an order, or of its start, by Plackett and Luce, for one context."""
    left, result = list(range(len(scores))), 1.0
    for a in order:
        result *= np.exp(scores[a]) / np.sum(np.exp(scores[left]))
        left.remove(a)
    return result


def bandit(rng):
    """A bandit of two contexts and four items: truth, logging policy, policy, wrong model."""
    shape = 2, slate_logs.PLACES, 4
    truth, wrong = rng.uniform(0.1, 0.9, shape), rng.uniform(0.1, 0.9, shape)
    logging, policy = rng.dirichlet(np.ones(4), (2, *shape[:2]))
    return truth, logging, policy, wrong


def all_rows(truth, logging):
    """Every row that a log can have, as a log, and its probability. Context 0 has 3/10 of them."""
    rows = [
        (x, a, k, r, logging[x, k, a], 0.0)
        for x, k, a, r in itertools.product(range(2), range(3), range(4), (0, 1))
    ]
    log = Log(*(np.array(column) for column in zip(*rows, strict=True)))
    at = log.context, log.place, log.item
    chance = np.where(log.click == 1, truth[at], 1 - truth[at]) * logging[at] / 3
    return log, chance * np.array([0.3, 0.7])[log.context]


def value(policy, truth):
    return np.sum(np.array([0.3, 0.7])[:, None, None] * policy * truth) / 3


def test_ips_and_dr_are_unbiased_by_enumeration(rng):
    truth, logging, policy, wrong = bandit(rng)
    log, chance = all_rows(truth, logging)
    assert chance.sum() == pytest.approx(1, abs=1e-12)
    found = slate_logs.terms(log, wrong, *slate_logs.weights(log, policy, wrong))
    for name in ("IPS", "DR"):
        above, below = found[name] @ chance
        assert above == pytest.approx(value(policy, truth), abs=1e-9)
        assert below == pytest.approx(1, abs=1e-9)
    above, below = found["SNIPS"] @ chance  # a ratio of these means
    assert above == pytest.approx(value(policy, truth), abs=1e-9)
    assert below == pytest.approx(1, abs=1e-9)


def test_objective_is_unbiased_by_enumeration(rng):
    """E[R] over logs of one row in each context: that place and item, times its probability."""
    truth, logging, policy, wrong = bandit(rng)
    log, chance = all_rows(truth, logging)
    expected = np.zeros_like(truth)
    for x in range(2):
        for row in np.flatnonzero(log.context == x):
            table, _ = slate_logs.doubly_robust(log.where(np.array([row])), wrong)
            expected[x] += table[x] * chance[row] / chance[log.context == x].sum()
    np.testing.assert_allclose(expected, truth / 3, atol=1e-9)
    task = slate_policies.Task(expected, np.array([0.3, 0.7]))
    assert task.value(policy) == pytest.approx(value(policy, truth), abs=1e-9)


def test_objective_averages_the_rows_of_a_context():
    log = Log(*np.array([[0, 0, 0, 1], [2, 2, 1, 0], [1, 1, 0, 2]]), *np.zeros((3, 4)))
    log = log._replace(click=np.array([1.0, 0, 0, 1]), propensity=np.array([0.25, 0.25, 0.5, 0.2]))
    q = np.full((2, 3, 4), 0.3)
    table, share = slate_logs.doubly_robust(log, q)
    np.testing.assert_allclose(share, [0.75, 0.25])
    assert table[0, 1, 2] == pytest.approx(0.1 + (0.7 / 0.25 - 0.3 / 0.25) / 3)
    assert table[0, 0, 1] == pytest.approx(0.1 - 0.3 / 0.5 / 3)
    assert table[1, 2, 0] == pytest.approx(0.1 + 0.7 / 0.2)
    assert np.sum(np.abs(table - 0.1) > 1e-12) == 3
    np.testing.assert_allclose(slate_logs.doubly_robust(log, q, shrink=0)[0], 0.1)


def test_interval_of_a_mean_agrees_with_its_standard_error(rng):
    sample = rng.normal(2, 3, size=4000)
    mean, low, high = slate_logs.interval(np.stack([sample, np.ones(4000)]), draws=2000)
    assert mean == pytest.approx(sample.mean(), rel=1e-6)
    error = sample.std() / np.sqrt(4000)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)


@pytest.mark.parametrize(("clicks", "rows"), [(0, 40), (3, 40), (40, 40)])
def test_agreement_is_the_interval_of_the_tails(clicks, rows):
    """At its ends, what was seen or more, or less, has probability .025."""
    value, low, high = slate_logs.agreement(clicks, rows)
    assert value == clicks / rows

    def chance(seen, p):
        return math.comb(rows, seen) * p**seen * (1 - p) ** (rows - seen)

    if clicks:
        assert sum(chance(c, low) for c in range(clicks, rows + 1)) == pytest.approx(0.025)
    else:
        assert low == 0
    if clicks < rows:
        assert sum(chance(c, high) for c in range(clicks + 1)) == pytest.approx(0.025)
    else:
        assert high == 1


@pytest.mark.parametrize("scale", [2, 30])  # moderate, and all but certain
def test_probabilities_of_places_by_enumeration(scale, rng):
    scores = rng.normal(size=(2, ITEMS)) * scale
    expected = np.zeros((2, 3, ITEMS))
    for x, order in itertools.product(range(2), itertools.permutations(range(ITEMS), 3)):
        for k, a in enumerate(order):
            expected[x, k, a] += likelihood(scores[x], order)
    np.testing.assert_allclose(slate_logs.marginals(scores), expected, rtol=1e-9)


def test_expected_cost_by_enumeration(rng):
    scores, table = rng.normal(size=4), rng.normal(size=(1, 3, 4)).astype("float32")
    expected = 0.0
    for order in itertools.permutations(range(4)):
        matrix = np.eye(4, dtype="float32")[None, list(order)]
        by_hand = -sum(table[0, k, order[k]] for k in range(3))
        found = float(slate_policies.cost(table, matrix)[0])
        assert found == pytest.approx(by_hand, abs=1e-5)
        expected += likelihood(scores, order) * by_hand
    found = slate_policies.expected_cost(table, scores[None].astype("float32"))
    assert float(found[0]) == pytest.approx(expected, abs=1e-5)


def test_best_slates_by_enumeration(rng):
    values = rng.normal(size=(20, 3, 6)) + 3 * rng.normal(size=(20, 1, 6))  # alike at all places
    for value, slate in zip(values, slate_logs.best_slates(values), strict=True):
        worth = {o: value[range(3), list(o)].sum() for o in itertools.permutations(range(6), 3)}
        assert tuple(slate) == max(worth, key=worth.get)


def test_click_model_is_where_the_posterior_is_flat(campaign, rng):
    model = ClickModel(campaign, main=0.7, cross=0.3).fit(campaign.random)
    log, start = campaign.random, model.weights.copy()
    assert model.precision[[0, 1, -1]] == pytest.approx([1e-4, 0.7**-2, 0.3**-2])

    def density(weights):
        model.weights = weights
        q = model.predict()[log.context, log.place, log.item]
        prior = np.sum(model.precision[1:] * weights[1:] ** 2) + 1e-4 * weights[0] ** 2
        return np.sum(np.log(np.where(log.click == 1, q, 1 - q))) - prior / 2

    for _ in range(5):
        step = 1e-4 * rng.normal(size=len(start))
        slope = (density(start + step) - density(start - step)) / 2e-4
        assert slope == pytest.approx(0, abs=1e-5)
        assert density(start + 100 * step) < density(start)


def test_popularity_shrinks_to_the_mean(campaign):
    log = campaign.random
    raw = np.array([log.click[log.item == a].mean() for a in range(ITEMS)])
    np.testing.assert_allclose(slate_logs.popular(log, ITEMS, 1e-9), raw, atol=1e-9)
    np.testing.assert_allclose(slate_logs.popular(log, ITEMS, 1e9), log.click.mean(), rtol=1e-6)


def test_columns_of_the_logs(root, campaign):
    with (root / "bts" / "men" / "men.csv").open() as file:
        rows = list(csv.DictReader(file))
    log = campaign.bts
    assert [int(row["item_id"]) for row in rows] == log.item.tolist()
    assert [int(row["position"]) - 1 for row in rows] == log.place.tolist()
    assert [int(row["click"]) for row in rows] == log.click.tolist()
    assert log.propensity == pytest.approx(1 / ITEMS)
    assert log.time[0] == pytest.approx(0.5 / 86400)
    assert np.all(np.diff(log.time) > 0)
    assert [row["user_feature_0"] for row in rows] == campaign.contexts[log.context, 0].tolist()
    assert campaign.vocabulary == [["a", "b"], ["c"], ["d"], ["e"]]  # "seldom" is too rare
    assert campaign.users[log.context[0]].tolist() == [1, 0, 1, 1, 0]
    assert campaign.users[log.context[1]].tolist() == [0, 1, 1, 1, 1]
    np.testing.assert_array_equal(campaign.items[:, :ITEMS], np.eye(ITEMS))
    np.testing.assert_allclose(campaign.items[:, ITEMS], -np.arange(ITEMS) / 10)
    np.testing.assert_array_equal(campaign.kinds[:, 0], [1, 1, 1, 0, 0])


def test_what_is_judged_on_comes_after_what_is_trained_on(campaign):
    parts = slates.splits(campaign, 5)
    assert len(parts) == 5
    for random, bts, later, later_bts in parts:
        assert max(random.time.max(), bts.time.max()) < min(later.time.min(), later_bts.time.min())
    for k, log in ((2, campaign.random), (3, campaign.bts)):
        judged = np.concatenate([part[k].time for part in parts])
        first = len(log.time) - len(judged)
        np.testing.assert_array_equal(judged, log.time[first:])  # each row of the rest, once
    assert len(parts[0][0].time) == pytest.approx(2 / 7 * 240, abs=2)


def test_clicks_are_drawn_with_the_probability_that_is_known(campaign, rng):
    truth = rng.uniform(0.1, 0.5, (len(campaign.contexts), 3, ITEMS))
    log = slates.redraw(campaign.random, truth, 100, np.random.default_rng(0))
    assert len(log.item) == 24_000
    expected = truth[log.context, log.place, log.item]
    assert abs(log.click.mean() - expected.mean()) < 4 * 0.5 / np.sqrt(24_000)
    top = expected > np.median(expected)
    assert abs(log.click[top].mean() - expected[top].mean()) < 4 * 0.5 / np.sqrt(12_000)


SMALL = ["--steps", "12", "--batch-size", "32", "--seeds", "2", "--no-jit"]


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """The command on a small campaign, and its folder."""
    output = tmp_path_factory.mktemp("run") / "slates"
    names = ["--estimators", "relax", "exact", "--learning-rate", "0.05"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slate_logs, "folder", lambda: root)
        return types.SimpleNamespace(
            found=slates.main([*SMALL, *names, "--output", str(output)]), output=output
        )


def test_command_judges_every_method(finished, campaign):
    values, simulated = finished.found["values"], finished.found["simulated"]
    trained = {f"{name}, {kind}" for name in ("relax", "exact") for kind in slates.OBJECTIVES}
    assert set(values) == {
        "random", "popularity", "greedy", "BTS, its own log",
        *trained, *(f"{name}, mode" for name in trained),
    }  # fmt: skip
    assert set(simulated) == {"best possible", "random", "popularity", "greedy", *trained}
    judged = [part[2] for part in slates.splits(campaign, 2)]
    clicks = np.concatenate([log.click for log in judged])
    assert values["random"]["IPS"][0] == pytest.approx(1000 * clicks.mean())
    expected = clicks.sum() / ITEMS, len(clicks) / ITEMS
    assert values["random"]["agrees"] == pytest.approx(expected)
    clicked, shown = values["greedy"]["agrees"]
    assert values["greedy"]["binomial"][0] == pytest.approx(1000 * clicked / shown)
    assert all("binomial" in found for name, found in values.items() if name.endswith("mode"))
    assert values["random"]["DR - random"] == pytest.approx((0, 0, 0))
    own = np.concatenate([part[3].click for part in slates.splits(campaign, 2)])
    assert values["BTS, its own log"]["on-policy"][0] == pytest.approx(1000 * own.mean())
    best = simulated["best possible"][0][0]
    for runs in simulated.values():
        assert all(0 < run[0] <= best + 1e-6 for run in runs)
    with (finished.output / "places.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["method"] == "random"]
    place = np.concatenate([log.place for log in judged])
    by_hand = [1000 * clicks[place == k].mean() for k in range(3)]
    found = [float(line["value"]) for line in lines if line["estimate"] == "IPS"]
    assert found == pytest.approx(by_hand, abs=2e-3)
    assert (finished.output / "slates.png").read_bytes().startswith(b"\x89PNG")


def test_training_climbs_what_it_is_told(finished):
    for runs in finished.found["curves"].values():
        assert all(run[-1] > run[0] + 0.02 for run in runs)
        assert all(run[-1] < 1 + 1e-6 for run in runs)


def test_command_goes_on_where_it_was(finished, root, monkeypatch):
    monkeypatch.setattr(slate_logs, "folder", lambda: root)
    before = (finished.output / "runs.json").read_text()
    trained, train = [], slate_policies.Contestant.train

    def counted(self, *args, **kwargs):
        trained.append(1)
        return train(self, *args, **kwargs)

    monkeypatch.setattr(slate_policies.Contestant, "train", counted)
    output = ["--output", str(finished.output)]
    again = [*SMALL, "--learning-rate", "0.05", "--estimators", "exact", *output]
    values = slates.main(again)["values"]
    assert values == {name: finished.found["values"][name] for name in values}
    assert len(trained) == 1  # that which is served
    assert (finished.output / "runs.json").read_text() == before
    with pytest.raises(SystemExit, match="other settings"):
        slates.main([*again, "--steps", "13"])


def test_served_model_shows_the_mode_in_a_new_process(finished, campaign, tmp_path):
    scorer = slate_policies.build_scorer(campaign)
    rng = np.random.default_rng(0)
    weights = scorer.get_weights()
    scorer.set_weights([*(rng.normal(size=w.shape) for w in weights[:-1]), weights[-1]])
    slate_policies.export(campaign, scorer, tmp_path / "served")
    unknown = np.array([["a", "c", "d", "never seen"]])
    features = np.concatenate([campaign.contexts, unknown])
    users = slate_logs.one_hot(features, campaign.vocabulary)
    expected = np.argsort(-scorer.predict_on_batch(users), axis=-1)[:, :3]
    assert len(np.unique(expected, axis=0)) > 1
    code = (
        "import json, sys, tensorflow as tf\n"
        "features = tf.constant(json.loads(sys.argv[1]))\n"
        "for path in sys.argv[2:]:\n"
        "    served = tf.saved_model.load(path)\n"
        "    (found,) = served.signatures['serving_default'](features).values()\n"
        "    print(json.dumps(found.numpy().tolist()))\n"
        "assert 'tf_relax' not in sys.modules\n"
    )
    paths = [str(tmp_path / "served"), str(finished.output / "served")]
    command = [sys.executable, "-c", code, json.dumps(features.tolist()), *paths]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    random, trained = (np.array(json.loads(line)) for line in printed.splitlines()[-2:])
    np.testing.assert_array_equal(random, expected)
    assert np.all((trained == 3).any(axis=1))  # item 3 earns the most, and the policy knows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "6"], "multiple of 4"),
        (["--learning-rate", "0"], "above 0"),
        (["--campaign", "children"], "invalid choice"),
        (["--steps", "0"], "1 or more"),
    ],
)
def test_wrong_options(arguments, message, capsys):
    with pytest.raises(SystemExit):
        slates.main(arguments)
    assert message in capsys.readouterr().err


def test_missing_data_is_named_with_its_remedy(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="no-deps obp"):
        slate_logs.load("men", tmp_path)
    monkeypatch.setattr(slate_logs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="no-deps obp"):
        slate_logs.folder()


def test_the_package_is_read_without_being_imported():
    if slate_logs.importlib.util.find_spec("obp") is None:
        pytest.skip("needs the logs of obp")
    found = slate_logs.load("women")
    assert [log.click.sum() for log in found[:2]] == [46, 46]
    assert found.items.shape[0] == 46
    assert found.random.propensity == pytest.approx(1 / 46)
    assert not {"obp", "torch"} & sys.modules.keys()


@pytest.mark.slow
def test_relax_is_between_reinforce_and_the_exact_gradient(tmp_path):
    """On the objective that hangs on few clicks, as the page says."""
    if slate_logs.importlib.util.find_spec("obp") is None:
        pytest.skip("needs the logs of obp")
    arguments = ["--seeds", "1", "--objectives", "robust", "--output", str(tmp_path)]
    names = ["relax", "reinforce", "exact"]
    curves = slates.main([*arguments, "--estimators", *names])["curves"]
    relax, reinforce, exact = (curves[f"robust, {name}"][0][-1] for name in names)
    assert exact > 1.5 * relax
    assert relax > 1.1 * reinforce
