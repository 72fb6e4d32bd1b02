"""The unordered set estimator, over all sets that can be drawn."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators import one_choice
from tests.estimators.one_choice import LOGITS
from tf_relax._src.estimators import unordered_set
from tf_relax._src.estimators.unordered_set import set_weights
from tf_relax.estimators import LeaveOneOut, UnorderedSet

float64 = pytest.mark.usefixtures("float64")


def sets(logits, size):
    """All sets, with noise that draws them and their probabilities, summed over their orders."""
    p = np.exp(logits) / np.exp(logits).sum()
    noise, weights = [], []
    for chosen in itertools.combinations(range(len(p)), size):
        for order in itertools.permutations(chosen):
            rest = [[k for k in range(len(p)) if k not in order[:i]] for i in range(size)]
            weights.append(np.prod([p[order[i]] / p[rest[i]].sum() for i in range(size)]))
            noise.append(np.zeros(len(p)))
            noise[-1][list(order)] = 50.0 * np.arange(size, 0, -1)
    return np.array(noise), np.array(weights)


def mean_estimate(model, logits, size):
    noise, weights = sets(logits, size)
    assert weights.sum() == pytest.approx(1)
    step = one_choice.differentiated(model, logits, noise)
    return weights @ step.logit_gradients[0].numpy()


@float64
@pytest.mark.parametrize("logits", [LOGITS, 3 * LOGITS, 20 * LOGITS], ids=["flat", "steep", "sure"])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_unbiased(size, logits):
    model = one_choice.model_of(UnorderedSet(size))
    exact, _ = one_choice.exact_gradients(model, logits)
    np.testing.assert_allclose(mean_estimate(model, logits, size), exact, atol=1e-12, rtol=0)


@float64
def test_weights_below_the_choice_get_their_exact_gradient_in_the_mean():
    model = one_choice.model_of(UnorderedSet(2))
    _, exact = one_choice.exact_gradients(model, LOGITS)
    noise, weights = sets(LOGITS, 2)
    found = [0.0] * len(exact)
    for row, weight in zip(noise, weights, strict=True):
        step = one_choice.differentiated(model, LOGITS, row[np.newaxis])
        pairs = zip(step.variables, step.gradients, strict=True)
        own = [g.numpy() for v, g in pairs if "logits" not in v.path]
        found = [total + weight * g for total, g in zip(found, own, strict=True)]
    for g, e in zip(found, exact, strict=True):
        np.testing.assert_allclose(g, e, atol=1e-12)


@float64
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("relaxation, a, draw, signal)", "relaxation, a, draws[0], signal)"),
        ("return tf.stop_gradient(weights[0])", "return tf.stop_gradient(tf.exp(log_p))"),
        ("tf.exp(log_p[:, tf.newaxis] + ratios)", "tf.exp(log_p[:, tf.newaxis])"),
        ("log_without[:, :, tf.newaxis], log_both)", "log_both, log_both)"),
    ],
)
def test_mutant_is_biased(right, wrong):
    kind = one_choice.mutant(unordered_set, "UnorderedSet", right, wrong)
    model = one_choice.model_of(kind(2))
    exact, _ = one_choice.exact_gradients(model, LOGITS)
    assert np.abs(mean_estimate(model, LOGITS, 2) - exact).max() > 1e-4


@float64
def test_a_set_of_everything_is_exact():
    model = one_choice.model_of(UnorderedSet(9))
    exact, _ = one_choice.exact_gradients(model, LOGITS)
    noise = np.random.default_rng(0).gumbel(size=(5, 4))
    found = one_choice.differentiated(model, LOGITS, noise).logit_gradients[0]
    np.testing.assert_allclose(found, np.tile(exact, (5, 1)), atol=1e-14)


def test_float32_agrees_with_float64():
    """Of sets from certain to hopeless."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 12)) * 10.0 ** rng.uniform(-1, 1.9, size=(2000, 1))
    log_p = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    log_p -= logits.max(axis=1, keepdims=True)
    order = np.argsort(-(logits + rng.gumbel(size=logits.shape)), axis=1)
    inside = np.take_along_axis(log_p, order[:, :4], axis=1)
    left = np.log(np.exp(np.take_along_axis(log_p, order[:, 4:], axis=1)).sum(axis=1))
    for of_32, of_64 in zip(
        set_weights(*(tf.constant(x, tf.float32) for x in (inside, left))),
        set_weights(*map(tf.constant, (inside, left))),
        strict=True,
    ):
        assert np.isfinite(of_32).all()
        np.testing.assert_allclose(of_32, of_64, rtol=2e-4, atol=2e-5)


@float64
def test_masks_and_few_categories_left(rng):
    """Three of five items are ruled out: the set holds the two that are left, and is exact."""
    keras.utils.set_random_seed(0)
    inputs, mask = keras.Input((5,)), keras.Input((5,), dtype="bool")
    choice = tf_relax.layers.RelaxCategorical(name="choice")(inputs, mask=mask)
    outputs = keras.layers.Dense(1)(keras.layers.Dense(3, "tanh")(choice))
    model = tf_relax.RelaxModel([inputs, mask], outputs)
    x = tf.constant(np.tile(rng.normal(size=(1, 5)), (64, 1)))
    taken = tf.constant(np.tile([[False, True, False, True, False]], (64, 1)))
    found = []
    for estimator in (UnorderedSet(4), "exact"):
        model.compile("sgd", "mse", estimator=estimator)
        step = model.differentiate([x, taken], tf.zeros((64, 1), "float64"))
        found.append(step.logit_gradients[0].numpy())
    np.testing.assert_allclose(found[0], found[1], atol=1e-12)
    assert (found[0][:, [0, 2, 4]] == 0).all()


@float64
def test_quieter_than_leaving_one_out_where_the_choice_is_nearly_made(seed):
    """Ten categories, of which the first has three quarters of the probability; two evaluations."""
    logits = np.array([4.0, 2.0, *np.zeros(8)])
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10,))
    choice = tf_relax.layers.RelaxCategorical(name="choice")(inputs)
    outputs = keras.layers.Dense(1)(keras.layers.Dense(5, "tanh")(choice))
    model = tf_relax.RelaxModel(inputs, outputs)
    x, y = np.tile(logits, (20_000, 1)), np.zeros((20_000, 1))
    variances = []
    for estimator in (UnorderedSet(2), LeaveOneOut(2)):
        model.compile("sgd", "mse", estimator=estimator)
        model.get_layer("choice").seed_generator.state.assign([seed, 1])
        g = model.differentiate(tf.constant(x), tf.constant(y)).logit_gradients[0].numpy()
        variances.append(g.var(axis=0).sum())
    assert variances[0] < 0.4 * variances[1]
