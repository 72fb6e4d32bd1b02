"""What `Watch` measures: usage, entropy, dead units, surrogates, gradients."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.callbacks.watched import X, binary_entropy, compiled, fixed, measured, watched
from tests.layers.families import FAMILIES, log_probabilities
from tf_relax._src.callbacks import watch_measure
from tf_relax.callbacks import GradientVariance, Watch
from tf_relax.estimators import Nvil, Relax

# ------------------------------------------------------------------ what is measured


def test_bits_worked_out_by_hand():
    p = np.array([[0.5, 0.2, 0.001, 0.999], [0.5, 0.6, 0.002, 0.99]])
    logits = np.log(p / (1 - p)).astype("float32")
    layer = tf_relax.layers.RelaxBernoulli(name="code")
    logs, watch = watched(fixed(layer, logits), logits, np.zeros((2, 4)))
    (measurement,) = watch.measurements
    site = measurement.sites["code"]
    np.testing.assert_allclose(site.usage, p.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(site.probabilities, p, rtol=1e-4)
    np.testing.assert_allclose(site.entropy, binary_entropy(p).mean(axis=0), rtol=1e-4)
    assert logs["code_entropy"] == pytest.approx(binary_entropy(p).mean(), rel=1e-4)
    assert logs["code_usage_entropy"] == pytest.approx(
        binary_entropy(p.mean(axis=0)).mean(), rel=1e-4
    )
    assert site.even_entropy == pytest.approx(np.log(2))
    # h(.0015) and h(.9945) lie below a tenth of log 2, h(.4) does not.
    assert site.dead.tolist() == [False, False, True, True]
    assert logs["code_dead"] == 2
    assert (site.units, site.sampled, site.notes) == (4, 0, ())
    names = {"entropy", "usage_entropy", "dead", "gradient_variance", "gradient_snr"}
    assert set(logs) == {"loss", *(f"code_{name}" for name in names)}


def test_a_bit_is_dead_below_a_share_of_a_whole_bit():
    p = np.array([0.0127, 0.0132, 0.9868, 0.9873])
    layer = tf_relax.layers.RelaxBernoulli()
    logits = np.log(p / (1 - p))[np.newaxis]
    assert measured(layer, logits).dead.tolist() == [True, False, False, True]
    assert not measured(layer, logits, dead_below=0.05).dead.any()


def test_categories_worked_out_by_hand():
    p = np.array([[0.1, 0.2, 0.7 - 1e-4, 1e-4], [0.3, 0.6, 0.1 - 1e-4, 1e-4]])
    layer = tf_relax.layers.RelaxCategorical(name="code")
    logs, watch = watched(fixed(layer, np.log(p), estimator="leave_one_out"), np.log(p), p)
    site, u = watch.measurements[0].sites["code"], p.mean(axis=0)
    np.testing.assert_allclose(site.usage, u, rtol=1e-4)
    assert logs["code_entropy"] == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-5)
    assert logs["code_usage_entropy"] == pytest.approx(-(u * np.log(u)).sum(), rel=1e-5)
    assert site.even_entropy == pytest.approx(np.log(4))
    assert site.dead.tolist() == [False, False, False, True]


DRAWS = 1000
# One of each kind of law.
KINDS = [family for family in FAMILIES if family.name not in ("sparse", "ordered_top_2_of_5")]


@pytest.mark.parametrize("family", KINDS, ids=lambda family: family.name)
def test_laws_agree_with_enumeration(family, rng):
    """Where draws are needed, within six standard errors of so many."""
    layer = family.make()
    layer.build((None, *family.event))
    relaxation = layer.relaxation
    a = tf.constant(rng.normal(size=(1, *family.event)), tf.float32)
    outcomes = relaxation.outcomes(family.shape)
    log_p = log_probabilities(relaxation, outcomes, a[0])
    p = np.exp(log_p)
    repeated = tf.repeat(a, len(outcomes), axis=0)
    b = np.asarray(relaxation.forced(repeated, tf.constant(outcomes)).b)
    mean = np.tensordot(p, b, axes=1)
    law = watch_measure.Law(relaxation, a, draws=DRAWS)
    error = np.sqrt(mean * (1 - mean) / DRAWS) if law.sampled else 0
    assert np.all(np.abs(law.mean[0] - mean) <= 6 * error + 1e-5)
    entropy = -(p * log_p).sum()  # of all choices of an event together
    spread = np.sqrt((p * log_p**2).sum() - entropy**2)
    error = spread / np.sqrt(DRAWS) if law.entropy_is_sampled else 0
    assert abs(law.entropy.sum() - entropy) <= 6 * error + 1e-4


def test_what_cannot_be_known_is_left_out_and_says_why():
    zeros = np.zeros((2, 3, 3))
    site = measured(tf_relax.layers.GumbelSinkhorn(), zeros)
    assert site.entropy is site.usage_entropy is None
    assert "entropy" not in site.scalars
    assert any("No entropy: the probability of a sample of GumbelSinkhorn" in n for n in site.notes)
    assert site.dead.sum() == 0
    assert site.usage.sum(axis=1) == pytest.approx(np.ones(3))
    site = measured(tf_relax.layers.RelaxPoisson(), np.log([[2.0, 5.0]]))
    np.testing.assert_allclose(site.usage, [2, 5], rtol=1e-5)
    assert site.dead is None
    assert any("No unit is called dead" in note for note in site.notes)
    site = measured(tf_relax.layers.RelaxNormal(), np.array([[1.0, -2.0, 0.0, 1.0]]))
    np.testing.assert_allclose(site.usage, [1, -2])
    np.testing.assert_allclose(site.entropy, 0.5 * np.log(2 * np.pi * np.e) + np.array([0, 1]))


def test_what_is_masked_is_no_unit():
    p = np.array([[0.5, 0.2, 0.9], [0.5, 0.6, 0.7]])
    mask = np.array([[True, True, False], [True, False, False]])
    logits = np.where(mask, np.log(p / (1 - p)), -np.inf)
    site = measured(tf_relax.layers.RelaxBernoulli(), logits, mask)
    np.testing.assert_allclose(site.usage, [0.5, 0.2, np.nan], rtol=1e-5)
    expected = binary_entropy(np.array([0.5, 0.2]))
    np.testing.assert_allclose(site.entropy[:2], expected, rtol=1e-5)
    assert site.scalars["entropy"] == pytest.approx(expected.mean(), rel=1e-5)
    assert (site.units, site.scalars["dead"]) == (2, 0)
    # A category that no example can choose is not dead, and even use is that of the other three.
    mask = np.array([[True, True, True, False]] * 2)
    logits = np.where(mask, [0.0, 0.0, -9.0, 0.0], -np.inf)
    site = measured(tf_relax.layers.RelaxCategorical(), logits, mask)
    assert site.dead.tolist() == [False, False, True, False]
    assert (site.units, site.even_entropy) == (3, pytest.approx(np.log(3)))


def test_entries_that_cannot_be_are_not_dead():
    layer = tf_relax.layers.RelaxSpanningTree(edges=[(0, 1), (1, 2), (0, 2)], output="adjacency")
    site = measured(layer, np.array([[20.0, 20.0, -20.0]] * 8))
    assert site.units == 6  # no node is its own neighbour
    # Edges (0, 1) and (1, 2) always, (0, 2) never.
    assert site.dead.astype(int).tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


# ------------------------------------------------------------------ surrogates and gradients


@keras.saving.register_keras_serializable(package="tests")
class Given(tf_relax.surrogates.Surrogate):
    """`factor` times the objective of the test below, and an offset."""

    looks_at = ()

    def build(self, *shapes):
        """Nothing is learned."""

    def __init__(self, factor, offset, **kwargs):
        super().__init__(**kwargs)
        self.factor, self.offset = factor, offset

    def call(self, z, **_):
        return self.offset + self.factor * objective_of(tf.cast(z > 0, z.dtype))


def objective_of(b):
    return b[:, 0] + 2 * b[:, 1]


def cost(y_true, y_pred):
    return objective_of(y_pred)


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (1.0, 0.5), (0.0, 0.5), (0.5, 0.0)])
def test_surrogate_fit_is_the_share_of_the_objective(factor, offset):
    """f has the mean 1.5 and the variance (1 + 4) / 4."""
    logits = np.zeros((4000, 2), "float32")
    layer = tf_relax.layers.RelaxBernoulli(name="code")
    loss = tf_relax.losses.BlackBox(cost)
    model = fixed(layer, logits, loss, Relax(surrogate=Given(factor, offset)))
    logs, _ = watched(model, logits, logits)
    left = (1 - factor) ** 2 * (1.25 + 1.5**2) - 2 * (1 - factor) * 1.5 * offset + offset**2
    assert logs["code_surrogate_fit"] == pytest.approx(1 - left / 1.25, abs=0.15)
    if (factor, offset) == (1.0, 0.0):
        assert logs["code_surrogate_fit"] == 1
    assert "code_temperature" not in logs  # the objective has no part in it


def test_baselines_have_a_fit_and_other_estimators_none():
    """A baseline that knows the example knows all of an objective without samples."""
    y = np.arange(8.0, dtype="float32")[:, np.newaxis]
    inputs = keras.Input((1,))
    bits = tf_relax.layers.RelaxBernoulli(name="code")(inputs, context=inputs)
    model = tf_relax.RelaxModel(inputs, 0 * bits + inputs)
    loss = tf_relax.losses.BlackBox(lambda y_true, y_pred: y_pred[:, 0])
    exact = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    z, context = keras.Input((1,)), keras.Input((1,))
    critic = keras.Model([z, context], exact(context) + 0 * z)
    exact.layers[0].set_weights([np.eye(1), np.zeros(1)])
    surrogate = tf_relax.surrogates.KerasModel(critic, looks_at=("context",))
    for estimator, fit in (
        (Nvil(surrogate=surrogate), 1.0),
        (tf_relax.estimators.Reinforce("learned", surrogate=surrogate), 1.0),
        ("leave_one_out", None),
    ):
        model.compile("sgd", loss, estimator=estimator, run_eagerly=True)
        found = watch_measure.surrogate_fits(model, tf.constant(y), tf.constant(y))
        assert list(found) == ([] if fit is None else ["code"])
        if fit is not None:
            assert float(found["code"]) == pytest.approx(fit, abs=1e-5)


def test_temperature_and_scale_are_those_of_the_surrogate():
    model = compiled(Relax(temperature=0.3, scale=0.7), learning_rate=0.0, run_eagerly=True)
    history = model.fit(X, X, callbacks=[Watch(X, X)], verbose=0, epochs=2).history
    assert history["code_temperature"] == pytest.approx([0.3, 0.3], rel=1e-5)
    assert history["code_scale"] == pytest.approx([0.7, 0.7], rel=1e-5)
    assert all(value <= 1 for value in history["code_surrogate_fit"])


def test_variance_and_signal_are_those_of_the_gradient():
    """Nothing trains, so all measurements are draws from one distribution."""
    model = compiled("reinforce", learning_rate=0.0)
    watch = Watch(X[:4], X[:4], gradients=4)
    model.fit(X, X, epochs=30, callbacks=[watch], verbose=0, shuffle=False)
    sites = [each.sites["code"] for each in watch.measurements]
    draw = tf.function(lambda: model.differentiate(X[:4], X[:4]).logit_gradients[0])
    draws = np.stack([draw() for _ in range(600)])
    variance = draws.var(axis=0, ddof=1)
    found = np.mean([site.gradient_variance for site in sites])
    assert found == pytest.approx(variance.mean(), rel=0.2)
    snr = np.sqrt((draws.mean(axis=0) ** 2 - variance / len(draws)).sum() / variance.sum())
    squares = np.mean([site.squared_signal for site in sites])
    assert np.sqrt(max(squares, 0) / found) == pytest.approx(snr, abs=0.15)
    for site in sites:
        expected = np.sqrt(max(site.squared_signal, 0) / site.gradient_variance)
        assert site.gradient_snr == pytest.approx(expected)


def test_all_pairs_of_gradients_count():
    """As many moments as pairs, and those of `GradientVariance` where there is one pair."""
    model = compiled("reinforce", run_eagerly=True)
    model.fit(X, X, verbose=0)

    def measured(gradients):
        once = functools.partial(watch_measure.draw, model, X, X)
        found = watch_measure.measured(model, once, dict, gradients)["code"]
        return [float(found[name]) for name in ("gradient_variance", "squared_signal")]

    ((variance, squared),) = GradientVariance._pair(_of(model)).values()
    assert measured(2) == pytest.approx([float(variance), float(squared)], rel=1e-5)
    with watch_measure.unchanged(watch_measure.moving_state(model)):
        g = [np.asarray(model.differentiate(X, X).logit_gradients[0]) for _ in range(3)]
    pairs = list(itertools.combinations(g, 2))
    variance = np.mean([((one - other) ** 2).mean() / 2 for one, other in pairs])
    assert measured(3) == pytest.approx([variance, np.mean([a * b for a, b in pairs])], rel=1e-4)
    assert measured(3) == measured(3)  # nothing has moved


def _of(model):
    callback = GradientVariance(X, X)
    callback.set_model(model)
    return callback
