"""The example of routed experts: prices, gradients by enumeration, and what is served."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import expert_layers
import expert_training
import routed_experts
from tf_relax.estimators import Exact

UNITS, PIXELS, COUNT = (2, 3, 5), 4, 6
PRICES = np.array([2, 3, 5]) * (PIXELS + 10)
SERVE = """
import sys
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
answer = served.serve(tf.constant(np.load(sys.argv[2]), tf.float32))
np.savez(sys.argv[3], **{key: value.numpy() for key, value in answer.items()})
"""


@pytest.fixture
def images(rng):
    return rng.normal(size=(COUNT, PIXELS)).astype("float32"), rng.integers(10, size=COUNT)


def compiled(method, price_weight=0.7, exploration=0.4, **options):
    """A router that prefers some experts, and its objective."""
    keras.utils.set_random_seed(0)
    network = expert_layers.routed(PIXELS, UNITS, method, **options)
    kernel, bias = network.router.weights[-2:]
    kernel.assign(np.random.default_rng(1).normal(size=kernel.shape))
    bias.assign([0.5, 0.0, -0.5])
    network.model.get_layer("price").weight.assign(price_weight)
    network.model.get_layer("spread").exploration.assign(exploration)
    drawn = {}
    if method in expert_training.DRAWN:
        drawn = {"estimator": expert_training.DRAWN[method], "batch_coupled": False}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.model.compile("sgd", loss, jit_compile=False, **drawn)
    return network


def experts_of(network):
    dispatch = next(x for x in network.served.layers if isinstance(x, expert_layers.Dispatch))
    return dispatch.experts


def by_enumeration(network, x, y, price_weight, exploration):
    """Derivatives of ``mean sum_e p_e (cross-entropy_e + weight price_e) + weight KL``."""
    variables = network.model.trainable_variables
    with tf.GradientTape() as tape:
        logits = network.router(x)
        costs = [
            keras.losses.sparse_categorical_crossentropy(y, expert(x), from_logits=True)
            + price_weight * price / PRICES.max()
            for expert, price in zip(experts_of(network), PRICES, strict=True)
        ]
        p = ops.softmax(logits)
        expected = ops.sum(p * ops.stack(costs, axis=1), axis=1)
        divergence = ops.sum(p * (ops.log_softmax(logits) + np.log(len(UNITS))), axis=1)
        total = ops.mean(expected + exploration * divergence)
    return dict(zip((v.path for v in variables), tape.gradient(total, variables), strict=True))


def test_auto_descends_the_sum_over_all_experts(images):
    network = compiled("auto")
    step = network.model.differentiate(*images)
    assert isinstance(network.model.estimator, Exact)
    exact = by_enumeration(network, *images, 0.7, 0.4)
    for variable, gradient in zip(step.variables, step.gradients, strict=True):
        np.testing.assert_allclose(gradient, exact[variable.path], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["relax", "leave_one_out", "unordered_set"])
def test_drawn_experts_have_the_same_expected_gradient(method, images):
    """The mean over equal examples is that over as many samples: five standard errors."""
    network = compiled(method)
    x, y = images[0][:1], images[1][:1]
    exact = by_enumeration(network, x, y, 0.7, 0.4)
    means = []
    for _ in range(20):
        step = network.model.differentiate(np.tile(x, (500, 1)), np.tile(y, 500))
        found = {v.path: g for v, g in zip(step.variables, step.gradients, strict=True)}
        means.append(np.concatenate([np.ravel(found[path]) for path in exact]))
    wanted = np.concatenate([np.ravel(gradient) for gradient in exact.values()])
    error = np.std(means, axis=0, ddof=1) / np.sqrt(len(means))
    # Twenty means estimate their own spread: of 193 numbers Student's t passes 6 once in 600 runs.
    assert np.all(np.abs(np.mean(means, axis=0) - wanted) < 6 * error + 1e-6)
    assert error.max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("active", [1, 2])
@pytest.mark.parametrize("method", ["auto", "switch", "mixture"])
def test_an_expert_runs_on_what_was_sent_to_it_alone(method, active, images):
    network = compiled(method, active=active)
    x = images[0]
    served = network.served(x)
    weights, logits = (np.asarray(served[key]) for key in ("weights", "logits"))
    np.testing.assert_array_equal(np.count_nonzero(weights, axis=1), active)
    most = np.argsort(-np.asarray(network.router(x)), axis=1)[:, :active]
    assert all(set(np.flatnonzero(w)) == set(m) for w, m in zip(weights, most, strict=True))
    answers = np.stack([expert(x) for expert in experts_of(network)], axis=1)
    np.testing.assert_allclose(
        logits, np.einsum("ne,nec->nc", weights, answers), rtol=1e-4, atol=1e-5
    )
    if method == "auto":
        np.testing.assert_allclose(logits, network.model(x, training=False), rtol=1e-4, atol=1e-5)
    # The weights of an expert that nobody asked may be anything.
    alone = x[:1]
    idle = np.flatnonzero(np.asarray(network.served(alone)["weights"])[0] == 0)
    for expert in idle:
        for variable in experts_of(network)[expert].weights:
            variable.assign(np.full(variable.shape, np.nan))
    np.testing.assert_allclose(network.served(alone)["logits"], logits[:1], rtol=1e-5, atol=1e-6)


def test_two_experts_of_relax_are_paid_half_each(images):
    network = compiled("relax", active=2, exploration=0.0)
    keras.utils.set_random_seed(3)
    network.model(images[0], training=True)
    price = network.model.get_layer("price")
    np.testing.assert_allclose(price.prices, PRICES / PRICES.max() / 2)
    paid = 0.7 * np.array([[1, 1, 0]]) @ price.prices
    price(np.array([[1.0, 1, 0]], "float32"))
    np.testing.assert_allclose(ops.sum(price.losses[-1]), paid.item(), rtol=1e-5)


def test_exploration_and_balance():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.4, 0.3, 0.3]], "float32")
    spread = expert_layers.Spread(balance=0.2)
    spread.build(p.shape)
    spread.exploration.assign(0.3)
    spread(ops.log(p))
    divergence = np.mean(np.sum(p * np.log(3 * p), axis=1))
    balance = 3 * np.sum([0.75, 0.25, 0] * p.mean(axis=0))
    np.testing.assert_allclose(spread.losses, [0.3 * divergence, 0.2 * balance], rtol=1e-5)


def test_gate_of_one_and_of_two():
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], "float32")
    one = expert_layers.Gate(1)(ops.log(p))
    np.testing.assert_allclose(one, [[0.5, 0, 0], [0, 0, 0.7]], rtol=1e-5)
    two = expert_layers.Gate(2)(ops.log(p))
    np.testing.assert_allclose(two, [[5 / 8, 3 / 8, 0], [0, 2 / 9, 7 / 9]], rtol=1e-5)


def test_jitter_in_training_alone():
    x = np.ones((50, 20), "float32")
    jitter = expert_layers.Jitter()
    np.testing.assert_array_equal(jitter(x), x)
    noisy = np.asarray(jitter(x, training=True))
    assert 0.99 <= noisy.min() < 0.992 < 1.008 < noisy.max() <= 1.01


def test_displaced_images_hold_the_same_pixels(rng):
    x = 1 + rng.random((200, 64)).astype("float32")
    shown = expert_training.displace(x, np.arange(200), rng)
    frames = shown.x.reshape(200, 10, 10)
    np.testing.assert_allclose(np.sort(shown.x)[:, -64:], np.sort(x), rtol=1e-6)
    np.testing.assert_array_equal(np.sort(shown.x)[:, :-64], 0)
    np.testing.assert_array_equal(shown.y, np.arange(200))
    middle = np.all(frames[:, 1:9, 1:9].reshape(200, -1) == x, axis=1)
    np.testing.assert_array_equal(shown.moved, ~middle)
    assert 0.3 < shown.moved.mean() < 0.6  # half of them, one in nine of which lands in the middle


@pytest.fixture
def small(monkeypatch):
    """Two labels that the brightest half of an image tells, in the place of the digits."""
    rng = np.random.default_rng(0)

    def made(count):
        y = rng.integers(2, size=count)
        x = rng.random((count, 64)).astype("float32")
        x[:, :32] += y[:, None]
        return expert_training.Images(x, y, np.zeros(count, bool))

    train, test = made(200), made(80)
    held = expert_training.displace(test.x, test.y, rng)
    monkeypatch.setattr(routed_experts, "load", lambda *_: (train, held))
    monkeypatch.setattr(routed_experts, "BATCHES", (2,))
    return train, held


def test_a_restarted_contestant_forgets(small):
    setting = expert_training.Setting(*small, (2, 4), 1, 20, 8, 0.01, 0.3, 0.0, False)
    one = expert_training.Contestant("relax", setting)
    runs = []
    for seed, price in ((1, 0.1), (2, 0.3), (1, 0.1)):
        one.train(seed, price)
        runs.append(one.model.get_weights())
    for first, again in zip(runs[0], runs[2], strict=True):
        np.testing.assert_allclose(first, again, rtol=1e-4, atol=1e-5)
    assert not np.allclose(runs[0][0], runs[1][0], atol=1e-3)


def test_cascades_pay_for_the_first_and_for_the_last_where_it_was_asked(small):
    setting = expert_training.Setting(*small, (2, 4, 8), 1, 200, 32, 0.02, 0.0, 0.0, False)
    alone = expert_training.Alone(setting)
    result = alone.run(0)
    x, y, _ = small[1]
    logits = np.asarray(alone.model(x))
    right = logits.argmax(axis=2) == y[:, None]
    np.testing.assert_allclose(result["alone"], right.mean(axis=0))
    assert result["alone"][-1] > 0.8
    sure = np.asarray(ops.softmax(logits[:, 1])).max(axis=1)
    for threshold, (accuracy, cost) in result["cascade"].items():
        asked = sure < float(threshold)
        assert cost == pytest.approx(setting.prices[1] + asked.mean() * setting.prices[2])
        picked = np.concatenate([right[asked, 2], right[~asked, 1]])
        assert accuracy == pytest.approx(picked.mean())


def test_cheapest_row_of_every_method_that_is_accurate_enough():
    rows = [
        routed_experts.Row("one expert for all", "8", [0.8, 0.8], [10, 10]),
        routed_experts.Row("one expert for all", "64", [0.95, 0.97], [80, 80]),
        routed_experts.Row("relax", "0.1", [0.955, 0.957], [40, 60], [[0.5, 0.5], [1, 0]]),
        routed_experts.Row("relax", "0.03", [0.96, 0.96], [70, 70], [[0.5, 0.5], [0, 1]]),
        routed_experts.Row("relax", "0.3", [0.95, 0.95], [20, 20], [[0.5, 0.5], [0, 1]]),
        routed_experts.Row("switch", "0.3", [0.5, 0.5], [20, 20], [[0.5, 0.5], [0, 1]]),
    ]
    found = routed_experts.cheapest(rows)
    assert {name: row.option for name, row in found.items()} == {
        "relax": "0.1", "one expert for all": "64"}  # fmt: skip
    np.testing.assert_allclose(routed_experts.effective(rows[2].load), [2, 1])


def test_command_prints_draws_exports_and_goes_on(small, tmp_path, capsys, monkeypatch):
    arguments = ["--experts", "2", "4", "--methods", "relax", "mixture", "--price-weights", "0.1"]
    arguments += ["--steps", "20", "--seeds", "2", "--no-jit", "--output", str(tmp_path)]
    rows = routed_experts.main(arguments)
    printed = capsys.readouterr().out
    assert (tmp_path / "routed_experts.png").read_bytes().startswith(b"\x89PNG")
    methods = ["one expert for all"] * 2 + ["cascade"] * len(expert_training.THRESHOLDS)
    assert [row.method for row in rows] == [
        *methods, "relax", "mixture, the most probable alone", "mixture, whole"]  # fmt: skip
    assert all(str(row) in printed.splitlines() for row in rows)
    assert rows[-3].cost.shape == (2,)
    pixels = small[1].x.shape[1]
    router = pixels * 8 + 8 * 2
    assert np.all(rows[-3].cost >= router + 2 * (pixels + 10))
    np.testing.assert_array_equal(rows[-1].cost, router + (2 + 4) * (pixels + 10))
    assert "milliseconds to serve a batch: relax, price weight 0.1" in printed

    np.save(tmp_path / "x.npy", small[1].x[:5])
    paths = [tmp_path / "served", tmp_path / "x.npy", tmp_path / "answers.npz"]
    subprocess.run([sys.executable, "-c", SERVE, *map(str, paths)], check=True, timeout=120)
    with np.load(paths[2]) as answer:
        assert answer["logits"].shape == (5, 10)
        np.testing.assert_array_equal(answer["weights"].sum(axis=1), 1)

    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(expert_training.Runs, "compute", fail)
    again = routed_experts.main(arguments)
    assert [str(row) for row in again] == [str(row) for row in rows]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experts", "8"], "--experts: give two or more"),
        (["--active", "2", "--methods", "unordered_set"], "not defined for two experts per image"),
        (["--steps", "15"], "multiple of 10"),
        (["--methods", "magic"], "invalid choice"),
        (["--dataset", "mnist", "--data", "/nowhere/mnist.npz"], "/nowhere/mnist.npz"),
    ],
)
def test_wrong_options_end_with_one_line(arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit):
        routed_experts.main([*arguments, "--output", str(tmp_path)])
    assert message in capsys.readouterr().err
