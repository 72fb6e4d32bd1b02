"""Counts in models: measure-valued derivatives against sums over all that can be drawn."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators.table import COUNTS
from tests.relaxations.test_counts import probabilities
from tf_relax import estimators
from tf_relax._src.estimators import measure_valued
from tf_relax.layers import RelaxGeometric, RelaxPoisson

LAYERS = {"poisson": RelaxPoisson, "geometric": RelaxGeometric}
LOGITS = {"poisson": np.array([0.2, -0.7]), "geometric": np.array([0.5, 1.3])}
MOST = 40
float64 = pytest.mark.usefixtures("float64")
by_name = pytest.mark.parametrize("name", LAYERS)


def model_of(name, estimator):
    keras.utils.set_random_seed(2)
    inputs = keras.Input((2,))
    sample = LAYERS[name](name="counts")(inputs)
    hidden = keras.layers.Dense(3, "tanh", name="hidden")(sample)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1, name="output")(hidden))
    model.compile("sgd", "mse", estimator=estimator)
    return model


def exact_gradient(name, model):
    """Derivative of the sum over all pairs of counts up to 40, by finite differences."""
    pairs = np.array(list(itertools.product(range(MOST), repeat=2)), "float64")
    output = model.get_layer("output")(model.get_layer("hidden")(tf.constant(pairs)))
    f = ((output - 0.3) ** 2).numpy()[:, 0].reshape(MOST, MOST)

    def expected(a):
        p, q = (probabilities(name, each)[:MOST] for each in a)
        return p @ f @ q

    a, h = LOGITS[name], 1e-5
    steps = h * np.eye(2)
    return np.array([(expected(a + step) - expected(a - step)) / (2 * h) for step in steps])


def z_scores(name, model, seed, rows=200_000):
    model.get_layer("counts").seed_generator.state.assign([seed, 3])
    x = tf.repeat(tf.constant(LOGITS[name][np.newaxis]), rows, axis=0)
    y = tf.fill((rows, 1), tf.constant(0.3, "float64"))
    step = tf.function(lambda: model.differentiate(x, y).logit_gradients[0], autograph=False)
    g = step().numpy()
    error = g.std(axis=0) / np.sqrt(rows)
    exact = exact_gradient(name, model)
    assert error.max() < 0.05 * np.abs(exact).max()
    return (g.mean(axis=0) - exact) / error, g.var(axis=0).sum()


@float64
@by_name
@pytest.mark.parametrize("row", COUNTS, ids=repr)
def test_unbiased(row, name, seed):
    """200,000 examples; |z| > 5.5 in any of two happens once in 10^7 runs."""
    scores, _ = z_scores(name, model_of(name, row.estimator), seed)
    assert np.abs(scores).max() < 5.5


@float64
@by_name
@pytest.mark.parametrize("wrong", ["sign", "weight", "share"])
def test_a_wrong_equation_shows(name, wrong, monkeypatch, seed):
    model = model_of(name, "measure_valued")
    kind = type(model.get_layer("counts").relaxation)
    right = kind.weak_weight
    if wrong in ("sign", "weight"):
        factor = {"sign": -1.0, "weight": 0.9}[wrong]
        monkeypatch.setattr(kind, "weak_weight", lambda self, a: factor * right(self, a))
    else:  # every unit as often as every other, whatever their weights

        def evenly(weights, noise, chosen=measure_valued._one_in_proportion):
            return chosen(tf.ones_like(weights), noise)

        monkeypatch.setattr(measure_valued, "_one_in_proportion", evenly)
    scores, _ = z_scores(name, model, seed)
    assert np.abs(scores).max() > 10


@float64
@by_name
def test_quieter_than_the_score(name, seed):
    _, measure = z_scores(name, model_of(name, "measure_valued"), seed)
    _, score = z_scores(name, model_of(name, "reinforce"), seed)
    assert measure < score / 2


@by_name
@pytest.mark.parametrize("estimator", ["measure_valued", "leave_one_out"])
def test_trains_and_is_saved(name, estimator, tmp_path):
    """``E (b - 3)^2 = var + (m - 3)^2`` is least at m = 2.5, and at 1.25 for geometric counts."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((1,))
    logits = keras.layers.Dense(2, kernel_initializer="zeros")(inputs)
    counts = LAYERS[name](name="counts")(logits)
    model = tf_relax.RelaxModel(inputs, counts)
    model.compile(keras.optimizers.Adam(0.05), "mse", estimator=estimator)
    x, y = np.ones((64, 1), "float32"), np.full((64, 2), 3.0, "float32")
    model.fit(np.tile(x, (50, 1)), np.tile(y, (50, 1)), batch_size=64, epochs=4, verbose=0)
    mean = model.get_layer("counts").relaxation.mean(model.layers[1](x[:1])).numpy()
    best = {"poisson": 2.5, "geometric": 1.25}[name]
    np.testing.assert_allclose(mean, best, atol=0.15 * best)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for a, b in zip(model.trained_variables, again.trained_variables, strict=True):
        np.testing.assert_array_equal(a, b)


@float64
@by_name
def test_priors(name, rng):
    a, prior = rng.normal(size=(4, 3)), rng.normal(size=3)
    layer = LAYERS[name](prior=prior, kl_weight=0.5)
    layer(tf.constant(a), training=True)
    (term,) = layer.losses
    expected = layer.relaxation.kl(tf.constant(a), tf.constant(np.tile(prior, (4, 1))))
    np.testing.assert_allclose(term * 4, 0.5 * tf.reduce_sum(expected, axis=1))


def test_two_layers(seed):
    """Counts that set the logits of bits, each with an estimator of its own, by the score.

    Two unbiased estimates of every weight agree within 6.5 standard errors of their difference.
    """
    keras.utils.set_random_seed(3)
    inputs = keras.Input((2,))
    counts = RelaxPoisson(name="counts")(keras.layers.Dense(2, name="a")(inputs))
    bits = tf_relax.layers.RelaxBernoulli(name="bits")(keras.layers.Dense(2, name="c")(counts))
    joint = keras.layers.Concatenate()([counts, bits])
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(keras.layers.Dense(3, "tanh")(joint)))
    x, y = np.tile([[0.4, -1.0]], (2000, 1)), np.full((2000, 1), 0.3)
    found = []
    for estimator in (
        {"counts": "measure_valued", "bits": "relax"},
        {"counts": estimators.LeaveOneOut(2), "bits": estimators.LeaveOneOut(2)},
    ):
        model.compile("sgd", "mse", estimator=estimator)
        for k, layer in enumerate(model.stochastic_layers):
            layer.seed_generator.state.assign([seed, k])

        @tf.function(autograph=False)
        def step():
            result = model.differentiate(x, y)
            by_id = {id(v): g for v, g in zip(result.variables, result.gradients, strict=True)}
            own = [by_id[id(v)] for v in model.trainable_variables]
            return tf.concat([tf.reshape(g, [-1]) for g in own], axis=0)

        runs = np.array([step().numpy() for _ in range(60)])
        found.append((runs.mean(axis=0), runs.var(axis=0, ddof=1) / 60))
    (first, first_error), (second, second_error) = found
    deviation = np.sqrt(first_error + second_error)
    assert deviation.max() < 0.1 * np.abs(second).max()
    assert np.all(np.abs(first - second) <= 6.5 * deviation + 1e-7)


def test_what_counts_cannot_do():
    model = model_of("poisson", "relax")
    with pytest.raises(ValueError, match=r"draws z given b, which is not known.*'counts'.*'reinf"):
        model.differentiate(np.ones((2, 2)), np.ones((2, 1)))
    inputs = keras.Input((2,))
    model = tf_relax.RelaxModel(inputs, tf_relax.layers.RelaxBernoulli(name="bits")(inputs))
    model.compile("sgd", "mse", estimator="measure_valued")
    with pytest.raises(ValueError, match=r"MeasureValued\(\) compares.*RelaxBernoulli 'bits'"):
        model.differentiate(np.ones((2, 2)), np.ones((2, 2)))
