"""Feature selection: the choice, the fair comparison, and the model that reads k inputs alone."""

import itertools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import common
import feature_models
import feature_selection
import feature_sets
import tf_relax

SERVE = """
import sys
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
np.save(sys.argv[3], served.serve(tf.constant(np.load(sys.argv[2]), tf.float32)).numpy())
"""


def data_of(count, n, informative, seed=0):
    """Labels that are the sign of a sum of some inputs, the rest is noise."""
    x = 5 + 2 * np.random.default_rng(seed).normal(size=(count, n))
    y = (x[:, informative].sum(1) > 5 * len(informative)).astype(int)
    return feature_sets.Data(x, y, [f"input {index}" for index in range(n)])


@pytest.fixture(scope="module")
def trained():
    """A per-model choice of 2 of 6 inputs, of which 1 and 4 decide, and its data."""
    data = data_of(400, 6, [1, 4])
    parts = feature_sets.split(data, 0)
    estimator = feature_selection.estimator_of("relax")
    selector = feature_models.Selector(estimator, n=6, k=2, steps=200)
    selector.train(parts.train, seed=0, learning_rate=0.03)
    return selector, data, parts


def test_relax_finds_the_inputs_that_decide(trained):
    selector, _, parts = trained
    masks = selector.masks(parts.test[0])
    np.testing.assert_array_equal(masks, np.tile([0, 1, 0, 0, 1, 0], (len(masks), 1)))
    logits = np.asarray(selector.model(parts.test[0]))
    assert feature_selection.measure(logits[:, 0], parts.test[1])[0] > 0.9


def test_a_restarted_selector_forgets(trained):
    selector, _, parts = trained
    runs = []
    for seed in (1, 2, 1):
        selector.train(parts.train, seed, 0.03)
        runs.append(selector.model.get_weights()[0])
    np.testing.assert_allclose(runs[0], runs[2], rtol=1e-4, atol=1e-5)
    assert not np.allclose(runs[0], runs[1], atol=1e-3)


def test_the_expected_gradient_of_the_scores_is_that_of_all_subsets():
    """``sum_T p(T | a) f(T) d log p(T | a)/da`` over the 12 ordered pairs of four inputs."""
    keras.utils.set_random_seed(0)
    model = feature_models.build_model(4, 2)
    estimator = feature_selection.estimator_of("relax")
    model.compile("sgd", feature_models.logistic_loss(), estimator=estimator, jit_compile=False)
    rng = np.random.default_rng(0)
    a, x = rng.normal(size=4).astype("float32"), rng.normal(size=4).astype("float32")
    scores = model.get_layer("scores").scores
    scores.assign(a)
    classifier = model.get_layer("classifier")
    p, terms = np.exp(a) / np.exp(a).sum(), []
    for first, second in itertools.permutations(range(4), 2):
        mask = np.zeros((1, 4), "float32")
        mask[0, [first, second]] = 1
        cost = np.logaddexp(0, -np.asarray(classifier([x * mask, mask]))[0, 0])
        left = np.where(np.arange(4) == first, 0, p) / (1 - p[first])
        score = mask[0] - p - left
        terms.append((p[first] * left[second], cost * score))
    weights, g = np.array([w for w, _ in terms]), np.stack([g for _, g in terms])
    exact = weights @ g
    # The mean over a batch of one example is that over as many samples. Without training relax is
    # the score function, whose deviation is known: five of its standard errors, and 4 numbers,
    # fail once in 400,000.
    count = 100_000
    error = np.sqrt((weights @ g**2 - exact**2) / count)
    step = model.differentiate(tf.tile(tf.constant(x[None]), [count, 1]), tf.ones((count, 1)))
    place = [variable is scores for variable in step.variables].index(True)
    assert np.all(np.abs(step.gradients[place] - exact) < 5 * error)
    assert np.all(5 * error < 0.1 * np.abs(exact).max())


def test_every_method_trains_the_same_classifier():
    """The same mask gives the same weights, whichever was trained before."""
    parts = feature_sets.split(data_of(60, 4, [0]), 0)
    x, y = parts.train
    judge = feature_models.Classifier(4)
    first, other = np.tile([1.0, 0, 0, 1], (2, len(x), 1)).astype("float32")
    other[:] = [0, 1, 1, 0]
    judge.train(x, first, y, 3, 0.01)
    weights = judge.model.get_weights()
    judge.train(x, other, y, 3, 0.1)
    judge.train(x, first, y, 3, 0.01)
    for one, again in zip(weights, judge.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, again, rtol=1e-4, atol=1e-5)
    judge.train(x, first, y, 3, 10.0)  # a penalty that leaves nothing
    assert np.abs(judge.model.get_layer("hidden").get_weights()[0]).max() < 0.01


def test_served_model_reads_k_raw_inputs_and_answers_as_the_full_one(trained, tmp_path):
    selector, data, parts = trained
    folder = tmp_path / "served"
    names = feature_models.export(selector.model, data, parts, folder)
    chosen = np.flatnonzero(selector.masks(parts.test[0])[0])
    assert names == [data.names[index] for index in chosen]
    assert json.loads((tmp_path / "served.json").read_text()) == {"inputs": names}

    raw = data.x[:50]
    standard = ((raw - parts.mean) / parts.scale).astype("float32")
    full = 1 / (1 + np.exp(-np.asarray(selector.model(standard, training=False))))
    np.save(tmp_path / "raw.npy", raw[:, chosen])
    paths = [folder, tmp_path / "raw.npy", tmp_path / "answers.npy"]
    subprocess.run([sys.executable, "-c", SERVE, *map(str, paths)], check=True, timeout=120)
    np.testing.assert_allclose(np.load(paths[2]), full, rtol=1e-4, atol=1e-5)
    served = tf.saved_model.load(folder)
    assert served.serve.input_signature[0].shape.as_list() == [None, 2]


def test_per_example_choice_reads_the_input():
    keras.utils.set_random_seed(0)
    model = feature_models.build_model(5, 2, per_example=True)
    model.get_layer("scores").set_weights(
        [np.random.default_rng(1).normal(size=(16, 5)), np.zeros(5)]
    )
    choose = keras.Model(model.input, model.get_layer("choice").output)
    masks = np.asarray(choose(np.random.default_rng(0).normal(size=(50, 5)).astype("float32")))
    assert len(np.unique(masks, axis=0)) > 1
    np.testing.assert_array_equal(masks.sum(1), 2)


def test_estimators_of_the_methods():
    names = {name: feature_selection.estimator_of(name) for name in feature_selection.LEARNED}
    assert names["auto"] == "auto"
    assert names["relax"].unbiased
    assert names["relax, per example"].unbiased
    assert not names["concrete"].unbiased
    assert not names["gumbel_straight_through"].unbiased
    model = feature_models.build_model(4, 2)
    model.compile("adam", loss=feature_models.logistic_loss())
    assert isinstance(model.estimator, tf_relax.estimators.LeaveOneOut)


def test_lasso_and_mutual_information_take_k_inputs_that_tell():
    data = data_of(300, 8, [2, 5], seed=1)
    x, y = feature_sets.split(data, 0).train
    for chosen in (feature_sets.lasso(x, y, 2), feature_sets.informative(x, y, 2, 3, seed=0)):
        assert sorted(chosen) == [2, 5]
    for k in range(1, 9):
        chosen = feature_sets.lasso(x, y, k, "balanced")
        assert len(set(chosen)) == k
        assert {2, 5} <= set(chosen) or k == 1


def test_splits_are_disjoint_stratified_and_standardised_on_training_data_alone():
    data = data_of(200, 3, [0])
    tested = []
    for seed in range(5):
        parts = feature_sets.split(data, seed)
        raw = [part[0] * parts.scale + parts.mean for part in parts[:3]]
        assert [len(part) for part in raw] == [120, 40, 40]
        np.testing.assert_allclose(np.sort(np.concatenate(raw), 0), np.sort(data.x, 0), atol=1e-5)
        np.testing.assert_allclose(parts.train[0].mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(parts.train[0].std(0), 1, atol=1e-5)
        for _, y in parts[:3]:
            assert abs(y.mean() - data.y.mean()) < 0.03
        tested.append(raw[2])
    np.testing.assert_allclose(np.sort(np.concatenate(tested), 0), np.sort(data.x, 0), atol=1e-5)


def test_labels_of_the_genes():
    pytest.importorskip("sksurv")
    data = feature_sets.load("genes")
    assert data.x.shape == (189, 80)  # nine of 198 were last seen within five years
    assert data.y.sum() == 35
    assert data.names[-4:] == ["age", "er", "grade", "size"]
    assert set(data.x[:, data.names.index("grade")]) == {1, 2, 3}
    assert set(data.x[:, data.names.index("er")]) == {0, 1}
    assert feature_sets.load("cancer").y.sum() == 212


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(common.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install scikit-survival"):
        feature_sets.load("genes")


def test_command_prints_draws_exports_and_goes_on(tmp_path, capsys, monkeypatch):
    small = data_of(100, 5, [1, 3])
    monkeypatch.setattr(feature_sets, "load", lambda name: small)
    monkeypatch.setattr(feature_models, "REFIT_STEPS", 10)
    monkeypatch.setattr(feature_selection, "PENALTIES", (0.01,))
    arguments = ["--dataset", "cancer", "--k", "1", "2", "--seeds", "2", "--steps", "10"]
    arguments += ["--output", str(tmp_path), "--methods", "relax", "l1", "all"]
    table = feature_selection.main(arguments)
    printed = capsys.readouterr().out
    assert (tmp_path / "feature_selection.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "cancer_2_inputs" / "saved_model.pb").exists()
    assert table["cancer"][1]["all"] == table["cancer"][2]["all"]
    for k, method in itertools.product((1, 2), ("relax", "l1")):
        runs = table["cancer"][k][method]
        mean = np.mean([run["accuracy"] for run in runs])
        assert any(
            line.split()[:4] == ["cancer", str(k), method, f"{mean:.3f}"]
            for line in printed.splitlines()
        )
        area = np.mean([run["auc"] for run in runs])
        assert f"{area:.3f} +- " in printed
        assert all(sum(run["chosen"]) == pytest.approx(k) for run in runs)
    pairs = [
        one["accuracy"] - other["accuracy"]
        for one, other in zip(table["cancer"][2]["relax"], table["cancer"][2]["l1"], strict=True)
    ]
    assert f"cancer    2 {np.mean(pairs):+.3f} +- " in printed
    assert ", ".join(table["cancer"][2]["relax"][0]["names"]) in printed

    def fail(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(feature_selection, "compete", fail)
    assert feature_selection.main(arguments) == table
    with pytest.raises(SystemExit):
        feature_selection.main([*arguments, "--k", "6"])
    assert "has 5 inputs" in capsys.readouterr().err
