"""Samples of TensorFlow Probability's distributions, and permutations without a probability.

Statistical tests ask every mean to lie within 6 standard errors of the truth, which fails once in
5e8: with some 120 means in this file, once in 4 million runs.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests import oracles
from tests.estimators.learned import objective_and_network, taught
from tests.layers.models import Table, gradients_of_rows
from tf_relax import RelaxModel, estimators, relaxations
from tf_relax.layers import GumbelSinkhorn, RelaxSample, Rounding
from tf_relax.sites import Record

tfd = tfp.distributions

TARGET = 0.3
A = {2: [0.4, -0.3], 3: [0.4, -0.3, 0.8]}


def normal(a):
    return tfd.Normal(a[:, 0], tf.exp(a[:, 1]))


@keras.saving.register_keras_serializable(package="test_relax_sample")
def laplace(a):
    return tfd.Laplace(a[:, :1], tf.exp(a[:, 1:2]))


def gamma(a):
    return tfd.Gamma(tf.exp(a[:, 0]), tf.exp(a[:, 1]))


def beta(a):
    return tfd.Beta(tf.exp(a[:, 0]), tf.exp(a[:, 1]))


def dirichlet(a):
    return tfd.Dirichlet(tf.exp(a))


def poisson(a):
    return tfd.Poisson(log_rate=a)


def categorical(a):
    return tfd.Categorical(logits=a)


def bernoulli(a):
    return tfd.Independent(tfd.Bernoulli(logits=a, dtype=a.dtype), 1)


@keras.saving.register_keras_serializable(package="test_relax_sample")
def standard_normal():
    return tfd.Normal(keras.ops.zeros(()), 1.0)


@keras.saving.register_keras_serializable(package="test_relax_sample")
def standard_laplace():
    return tfd.Laplace(keras.ops.zeros(()), 1.0)


CONTINUOUS = {normal: 2, laplace: 2, gamma: 2, beta: 2, dirichlet: 3}
DISCRETE = {poisson: 2, categorical: 3, bernoulli: 2}


def exact_gradient(make, size):
    """Of ``E mean_i (b_i - t)^2``, by mean and variance or by the sum over all categories."""
    a = tf.constant([A[size]], "float64")
    with tf.GradientTape() as tape:
        tape.watch(a)
        q = make(a)
        if make is categorical:
            costs = (tf.range(size, dtype=a.dtype) - TARGET) ** 2
            expected = tf.reduce_sum(tf.nn.softmax(a) * costs)
        else:
            expected = tf.reduce_mean(q.variance() + (q.mean() - TARGET) ** 2)
    return tape.gradient(expected, a)[0].numpy()


def model_of(layer, a):
    """The sample itself, of logits `[batch, *event]`."""
    inputs = keras.Input((1,))
    sample = layer(Table(a)(inputs))
    sample = keras.layers.Reshape((-1,))(sample) if len(sample.shape) != 2 else sample
    return RelaxModel(inputs, sample)


def per_example(model, target):
    """Gradients in the logits, `[batch, *event]`."""
    rows = model.get_layer("table").rows
    size = rows.shape[0]
    x = tf.zeros((size, 1), rows.dtype)
    y = tf.fill((size, model.output_shape[-1]), tf.constant(target, rows.dtype))
    return gradients_of_rows(model, x, y)


def moments(model, seed, target=TARGET):
    """Mean of the gradient, and its standard error."""
    for layer in model.stochastic_layers:
        layer.seed_generator.state.assign([seed, 5])
        surrogate = getattr(model.estimator_state[layer.name], "surrogate", None)
        for variable in [] if surrogate is None else surrogate.trainable_variables:
            # Anything will do.
            variable.assign(0.05 * np.random.default_rng(1).standard_normal(variable.shape))
    g = per_example(model, target)
    return g.mean(axis=0), g.std(axis=0) / np.sqrt(len(g))


def repeated(a, rows):
    return np.repeat(np.array([a]), rows, axis=0)


# ------------------------------------------------------------------------------ gradients


def check(make, size, estimator, seed, rows=50_000, **options):
    model = model_of(RelaxSample(make, **options), repeated(A[size], rows))
    model.compile("sgd", "mse", estimator=taught(estimator, scale=0.6))
    found, error = moments(model, seed)
    exact = exact_gradient(make, size)
    assert np.abs(exact).max() > 0.01
    assert error.max() < 0.2 * np.abs(exact).max()  # else this would prove nothing
    assert (np.abs(found - exact) <= 6 * error + 1e-12).all()


@pytest.mark.parametrize("estimator", ["reparameterization", "lax", "reinforce"])
@pytest.mark.parametrize("make", CONTINUOUS, ids=lambda make: make.__name__)
def test_continuous_samples(make, estimator, seed, float64):
    check(make, CONTINUOUS[make], estimator, seed)


@pytest.mark.parametrize("estimator", ["reinforce", "leave_one_out", "nvil"])
@pytest.mark.parametrize("make", DISCRETE, ids=lambda make: make.__name__)
def test_discrete_samples(make, estimator, seed, float64):
    check(make, DISCRETE[make], estimator, seed)


@pytest.mark.parametrize("make", [gamma, beta, dirichlet], ids=lambda make: make.__name__)
def test_rejection_samples(make, seed, float64):
    """Against mean and variance in closed form."""
    check(make, CONTINUOUS[make], "rejection", seed, sampler="rejection", boosts=2)


@pytest.mark.parametrize("estimator", ["reparameterization", "lax", "dlax", "reinforce"])
def test_laplace_by_quadrature(estimator, monkeypatch, float64):
    """Gauss-Laguerre on either side of the kink: polynomials are integrated to rounding."""
    x, w = np.polynomial.laguerre.laggauss(20)
    eps, weights = np.concatenate([-x, x])[:, None], np.concatenate([w, w]) / 2

    def sample(self, a, noise):
        q = self.make_distribution(a)
        b = q.loc + q.scale * eps
        return relaxations.Draw(noise=noise, z=b, b=b)

    monkeypatch.setattr(relaxations.Distribution, "sample", sample)
    model = model_of(RelaxSample(laplace), repeated(A[2], len(eps)))
    model.compile("sgd", "mse", estimator=taught(estimator, "objective", scale=0.6))
    found = weights @ per_example(model, TARGET)
    np.testing.assert_allclose(found, exact_gradient(laplace, 2), atol=1e-9)


# ------------------------------------------------------------------------------ the layer


@pytest.mark.parametrize(
    ("make", "shape", "sampled"),
    [(laplace, (4, 2), (4, 1)), (categorical, (4, 5), (4,)), (dirichlet, (4, 2, 3), (4, 2, 3))],
    ids=["laplace", "categorical", "dirichlet"],
)
@pytest.mark.parametrize(
    ("policy", "compute"), [("float32", "float32"), ("mixed_bfloat16", "bfloat16")]
)
def test_shape_and_dtype(make, shape, sampled, policy, compute, rng):
    layer = RelaxSample(make, dtype=policy)
    a = tf.constant(rng.normal(size=shape), compute)
    with Record() as sites:
        sample = layer(a, training=True)
    assert sample.shape == layer.compute_output_shape(shape) == sampled
    assert sample.dtype == compute
    assert sites[0].b.dtype == sites[0].logits.dtype == tf.float32
    symbolic = RelaxSample(make)(keras.Input(shape[1:]))
    assert symbolic.shape == (None, *sampled[1:])


def test_seed_repeats_the_samples(rng):
    a = tf.constant(rng.normal(size=(20, 2)), "float32")
    first, second, other = (RelaxSample(laplace, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first(a), second(a))
    assert (np.asarray(first(a)) != np.asarray(other(a))).all()


@pytest.mark.parametrize("inference", ["mode", "mean"])
def test_inference(inference, rng):
    a = tf.constant(rng.normal(size=(4, 2)), "float32")
    layer = RelaxSample(gamma, inference=inference)
    shape, rate = np.exp(np.asarray(a)).T
    expected = shape / rate if inference == "mean" else (shape - 1) / rate
    found = np.asarray(layer(a, training=False))
    defined = np.ones(4, bool) if inference == "mean" else shape > 1
    assert defined.any()
    np.testing.assert_allclose(found[defined], expected[defined], rtol=1e-5)


@pytest.mark.parametrize("prior", [standard_laplace, standard_normal])
def test_divergence(prior, rng, seed, float64):
    """By formula between Laplaces; a Laplace and a normal have none, and it is sampled.

    ``E log q = -log(2 s) - 1``, ``E log p = -log(2 pi) / 2 - (m^2 + 2 s^2) / 2``.
    """
    a = np.tile([A[2]], (20_000, 1))
    layer = RelaxSample(laplace, prior=prior, seed=seed)
    layer(tf.constant(a), training=True)
    (term,) = layer.losses
    found = np.asarray(term) * len(a)
    m, s = A[2][0], np.exp(A[2][1])
    if prior is standard_laplace:
        expected = -np.log(s) - 1 + abs(m) + s * np.exp(-abs(m) / s)
        np.testing.assert_allclose(found, np.full(len(a), expected), rtol=1e-9)
    else:
        expected = -np.log(2 * s) - 1 + np.log(2 * np.pi) / 2 + (m**2 + 2 * s**2) / 2
        assert abs(found.mean() - expected) < 6 * found.std() / np.sqrt(len(a))
        assert found.std() > 0.01


@pytest.mark.parametrize("prior", [None, standard_normal])
def test_saved_with_its_model(prior, rng, tmp_path):
    inputs = keras.Input((3,))
    inference = "mean" if prior is None else "sample"  # there is no formula to go without one
    layer = RelaxSample(laplace, prior=prior, inference=inference, seed=0, name="layer")
    sample = layer(keras.layers.Dense(2)(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(1)(sample))
    model.compile("adam", "mse", estimator="lax", run_eagerly=True)
    x = rng.normal(size=(6, 3))
    assert np.isfinite(model.fit(x, np.ones((6, 1)), verbose=0).history["loss"]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = loaded.get_layer("layer")
    assert (again.make_distribution, again.prior) == (laplace, prior)
    assert (again.inference, again.seed, again.sampler) == (inference, 0, "tfp")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_configuration():
    layer = RelaxSample(laplace, "rejection", 3, prior=standard_normal, inference="mode")
    again = RelaxSample.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.sampler, again.boosts) == ("rejection", 3)


# ------------------------------------------------------------------------------ matchings


WEIGHTS = np.random.default_rng(4).normal(size=9)


def costs(b):
    """``(w . b - t)^2`` of permutation matrices `[..., n, n]`."""
    flat = b.reshape(*b.shape[:-2], -1)
    return (flat @ WEIGHTS[: flat.shape[-1]] - TARGET) ** 2


def matching_model(layer, a, estimator):
    """The same objective as a model."""
    inputs = keras.Input((1,))
    flat = keras.layers.Flatten()(layer(Table(a)(inputs)))
    outputs = keras.layers.Dense(1, use_bias=False)(flat)
    model = RelaxModel(inputs, outputs)
    kernel = model.layers[-1].kernel
    kernel.assign(WEIGHTS[: kernel.shape[0], None])
    model.compile("sgd", "mse", estimator=estimator)
    return model


def two_by_two(probability_of_identity):
    identity, swap = costs(np.eye(2)), costs(np.eye(2)[::-1])
    return swap + probability_of_identity * (identity - swap)


def exact_sinkhorn(a):
    """The identity wins if ``d + l_1 + l_2 > 0``, l logistic: quadrature over one of them."""
    nodes, weights = oracles.logistic_rule(0.0)
    a = tf.constant(a)
    with tf.GradientTape() as tape:
        tape.watch(a)
        d = a[0, 0] + a[1, 1] - a[0, 1] - a[1, 0]
        expected = two_by_two(tf.reduce_sum(weights * tf.sigmoid(d + nodes)))
    return tape.gradient(expected, a).numpy()


def exact_rounding(a):
    """The same with four normals around Sinkhorn's matrix."""
    a = tf.constant(a)
    with tf.GradientTape() as tape:
        tape.watch(a)
        m, log_nu = tf.split(a, 2, axis=-1)
        s = relaxations.sinkhorn(m, 20)
        d = s[0, 0] + s[1, 1] - s[0, 1] - s[1, 0]
        spread = tf.sqrt(tf.reduce_sum(tf.exp(2 * log_nu)))
        expected = two_by_two(tfd.Normal(tf.zeros((), a.dtype), 1.0).cdf(d / spread))
    return tape.gradient(expected, a).numpy()


@pytest.mark.parametrize("estimator", ["dlax", "reinforce"])
@pytest.mark.parametrize("kind", [GumbelSinkhorn, Rounding])
def test_matchings_of_two(kind, estimator, seed, float64):
    event, exact = ((2, 2), exact_sinkhorn) if kind is GumbelSinkhorn else ((2, 4), exact_rounding)
    a = np.random.default_rng(2).normal(size=event)
    chosen = objective_and_network(4) if kind is GumbelSinkhorn else "network"
    estimator = taught(estimator, chosen, scale=0.5)
    model = matching_model(kind(), repeated(a, 50_000), estimator)
    found, error = moments(model, seed)
    truth = exact(a)
    assert np.abs(truth).max() > 5 * error.max()
    assert (np.abs(found - truth) <= 6 * error).all()


@pytest.mark.slow
def test_matchings_of_three(seed, float64):
    """Against the score of z with two million draws, the best of all permutations by search."""
    rng = np.random.default_rng([seed, 1])
    a = np.random.default_rng(2).normal(size=(3, 3))
    matrices = np.array([np.eye(3)[list(p)] for p in itertools.permutations(range(3))])
    cost = costs(matrices)
    first, second, draws = 0.0, 0.0, 10
    for _ in range(draws):
        noise = rng.gumbel(size=(200_000, 9))
        best = np.argmax((a.ravel() + noise) @ matrices.reshape(6, 9).T, axis=1)
        g = (cost[best] - cost.mean())[:, None] * (1 - np.exp(-noise))
        first, second = first + g.mean(axis=0) / draws, second + (g**2).mean(axis=0) / draws
    reference_error = np.sqrt((second - first**2) / (draws * 200_000)).reshape(3, 3)
    estimator = estimators.Dlax(surrogate=objective_and_network(4), scale=0.5)
    model = matching_model(GumbelSinkhorn(), repeated(a, 50_000), estimator)
    found, error = moments(model, seed)
    assert np.abs(first).max() > 5 * error.max()
    assert (np.abs(found - first.reshape(3, 3)) <= 6 * np.hypot(error, reference_error)).all()


@pytest.mark.parametrize("kind", [GumbelSinkhorn, Rounding])
def test_relaxed_training_is_biased_and_says_so(kind, seed, float64):
    event, exact = ((2, 2), exact_sinkhorn) if kind is GumbelSinkhorn else ((2, 4), exact_rounding)
    a = np.random.default_rng(2).normal(size=event)
    estimator = estimators.Concrete(temperature=1.0)
    model = matching_model(kind(), repeated(a, 20_000), estimator)
    found, error = moments(model, seed)
    bias = np.abs(found - exact(a))
    print(f"{kind.__name__}: bias {bias.max():.3f}, standard error {error.max():.3f}")
    assert not estimator.unbiased
    assert (bias > 20 * error).any()
