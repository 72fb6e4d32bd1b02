"""The normal layer: what it returns, adds to the loss, saves, and how it is differentiated."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tests.estimators.learned import taught
from tests.layers.models import divergence
from tests.models import normal, run_modes
from tf_relax import RelaxModel, estimators
from tf_relax.layers import RelaxNormal
from tf_relax.sites import Record
from tf_relax.surrogates import Network

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")


def parameters(rng, shape, dtype="float32"):
    return tf.constant(rng.normal(size=shape), dtype)


def split(a):
    mean, log_scale = np.split(np.asarray(a, "float64"), 2, axis=-1)
    return mean, np.exp(log_scale)


def autoencoder(model_class=RelaxModel, **arguments):
    inputs = keras.Input((3,))
    code = normal(**arguments)(keras.layers.Dense(8, name="encoder")(inputs))
    return model_class(inputs, keras.layers.Dense(2, name="decoder")(code))


# ------------------------------------------------------------------------------ samples


@pytest.mark.parametrize("training", [True, False, None])
@pytest.mark.parametrize(
    ("shape", "sampled"), [((4, 2), (4, 1)), ((4, 6), (4, 3)), ((4, 5, 6), (4, 5, 3))]
)
def test_samples_have_half_the_parameters(shape, sampled, training, rng):
    layer = RelaxNormal(prior="standard")
    sample = layer(parameters(rng, shape), training=training)
    assert sample.shape == layer.compute_output_shape(shape) == sampled
    assert sample.dtype == "float32"
    (term,) = layer.losses
    assert term.shape == shape[:1]


def test_symbolic_call():
    output = normal()(keras.Input((None, 6), batch_size=2))
    assert output.shape == (2, None, 3)


def test_samples_are_normal():
    a = tf.constant([[2.0, np.log(0.5)]] * 20_000)
    sample = np.asarray(normal(seed=0)(a, training=True)).ravel()
    assert stats.kstest(sample, stats.norm(2, 0.5).cdf).pvalue > 1e-3


def test_seed_repeats_the_samples(rng):
    a = parameters(rng, (4, 6))
    first, second, other = (normal(seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first(a), second(a))
    assert (np.asarray(first(a)) != np.asarray(other(a))).all()


@pytest.mark.parametrize("inference", ["mode", "mean"])
def test_inference_returns_the_mean(inference, rng):
    a = parameters(rng, (4, 6))
    layer = normal(inference=inference)
    np.testing.assert_array_equal(layer(a, training=False), a[:, :3])
    assert (np.asarray(layer(a, training=True)) != np.asarray(a[:, :3])).any()


@pytest.mark.parametrize(
    ("policy", "compute", "noise"),
    [
        ("mixed_float16", "float16", "float32"),
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("float64", "float64", "float64"),
    ],
)
def test_only_the_output_has_the_compute_dtype(policy, compute, noise, rng):
    layer = normal(dtype=policy, prior="standard")
    with Record() as sites:
        sample = layer(parameters(rng, (4, 6)), training=True)
    assert sample.dtype == compute
    site = sites[0]
    assert {tensor.dtype.name for tensor in (site.logits, site.z, site.b)} == {noise}


# ------------------------------------------------------------------------------ divergence


def test_divergence_from_the_standard_normal(rng):
    a = parameters(rng, (4, 2, 6))
    layer = normal(prior="standard")
    layer(a, training=True)
    mean, scale = split(a)
    expected = 0.5 * (mean**2 + scale**2 - 1) - np.log(scale)
    np.testing.assert_allclose(divergence(layer), expected.sum(axis=(1, 2)), rtol=1e-5)


def test_sampled_divergence_is_that_of_the_sample(rng):
    """As the weights of an importance-weighted bound need it."""
    a = parameters(rng, (4, 6))
    layer = normal(prior="standard")
    with Record(divergence="sampled", noise=[parameters(rng, (4, 3))]) as sites:
        layer(a, training=True)
    mean, scale = split(a)
    z = np.asarray(sites[0].z, "float64")
    expected = stats.norm.logpdf(z, mean, scale) - stats.norm.logpdf(z)
    np.testing.assert_allclose(divergence(layer), expected.sum(axis=1), rtol=1e-4)


def test_without_a_prior_nothing_is_added(rng):
    layer = normal()
    layer(parameters(rng, (4, 6)), training=True)
    assert layer.losses == []


# ------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize("training", [True, False])
def test_outside_of_a_relax_model_it_is_reparameterised(training, rng):
    a = parameters(rng, (4, 6))
    weight = rng.normal(size=(4, 3)).astype("float32")
    layer = normal()
    with tf.GradientTape() as tape:
        tape.watch(a)
        sample = layer(a, training=training)
        total = tf.reduce_sum(weight * tf.sin(sample))
    mean, _ = split(a)
    b = np.asarray(sample, "float64")
    slope = weight * np.cos(b)
    expected = np.concatenate([slope, slope * (b - mean)], axis=-1)  # d b / d s = exp(s) eps
    np.testing.assert_allclose(tape.gradient(total, a), expected, rtol=1e-4, atol=1e-5)


@run_modes
def test_trains_in_a_plain_keras_model(run_eagerly):
    model = autoencoder(keras.Model, prior="standard")
    model.compile("adam", "mse", run_eagerly=run_eagerly)
    encoder = model.get_layer("encoder")
    before = encoder.get_weights()
    assert model.get_layer("code").trainable_variables == []
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()
    for a, b in zip(before, encoder.get_weights(), strict=True):
        assert (a != b).all()


@run_modes
@pytest.mark.parametrize("estimator", ["reparameterization", "lax"])
def test_inside_a_relax_model_it_starts_reparameterised(estimator, run_eagerly, rng):
    """LAX with the objective itself as its surrogate: what is left is the derivative of the path.

    The prior counts as well, and so do the weights of the decoder.
    """
    model = autoencoder(prior="standard")
    estimator = taught(estimator, "objective")
    model.compile("sgd", "mse", estimator=estimator, run_eagerly=run_eagerly)
    eps = rng.normal(size=(6, 4)).astype("float32")

    def step():
        result = model.differentiate(tf.constant(X), tf.constant(Y), noise=[eps])
        return result.gradients, result.loss

    gradients, loss = step() if run_eagerly else tf.function(step)()
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    with tf.GradientTape() as tape:
        mean, log_scale = tf.split(encoder(X), 2, axis=-1)
        predicted = decoder(mean + tf.exp(log_scale) * eps)
        kl = 0.5 * (mean**2 + tf.exp(2 * log_scale) - 1) - log_scale
        objective = tf.reduce_mean((predicted - Y) ** 2) + tf.reduce_mean(tf.reduce_sum(kl, axis=1))
    np.testing.assert_allclose(loss, objective, rtol=1e-5)
    weights = [*encoder.weights, *decoder.weights]
    expected = tape.gradient(objective, [w.value for w in weights])
    by_variable = {id(v): g for v, g in zip(model.trained_variables, gradients, strict=True)}
    for weight, g in zip(weights, expected, strict=True):
        np.testing.assert_allclose(by_variable[id(weight)], g, rtol=1e-3, atol=1e-5)


@run_modes
@pytest.mark.parametrize(
    ("estimator", "surrogate", "trained"),
    [
        ("lax", "sum", {"scale", "intercept", "kernel", "bias"}),
        ("lax", "network", {"kernel", "bias"}),
        ("dlax", "objective", {"scale", "intercept"}),
        ("nvil", "objective", {"intercept"}),
        ("reinforce", "sum", set()),
        ("leave_one_out", "sum", set()),
        ("reparameterization", "sum", set()),
    ],
)
def test_what_estimators_train_beside_the_model(estimator, surrogate, trained, run_eagerly):
    """Not the temperature: continuous samples are not relaxed."""
    model = autoencoder()
    estimator = taught(estimator, surrogate)
    model.compile(keras.optimizers.Adam(0.1), "mse", estimator=estimator, run_eagerly=run_eagerly)
    own = len(model.trainable_variables)
    assert own == 4
    learned = model.trained_variables[own:]
    assert {v.name for v in learned} == trained
    before = [v.numpy() for v in model.trained_variables]
    model.fit(X, Y, batch_size=3, verbose=0)
    for a, v in zip(before, model.trained_variables, strict=True):
        assert (a != v.numpy()).any(), v.path


# ------------------------------------------------------------------------------ saving


@pytest.mark.parametrize("surrogate", ["sum", Network(units=(5,), looks_at=("logits",))])
def test_saved_with_its_model(surrogate, tmp_path):
    model = autoencoder(prior="standard", inference="mean", seed=0)
    estimator = estimators.Lax(surrogate=surrogate, scale=0.5)
    model.compile("adam", "mse", estimator=estimator, run_eagerly=True)
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    (theirs,) = loaded.stochastic_layers
    assert (theirs.prior, theirs.inference, theirs.seed) == ("standard", "mean", 0)
    assert estimators.serialize(loaded.estimator) == estimators.serialize(estimator)
    assert loaded.estimator.scale == 0.5
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    model.fit(X, Y, shuffle=False, verbose=0)
    loaded.fit(X, Y, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    states = (each.estimator_state.variables for each in (model, loaded))
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_configuration():
    layer = normal(prior="standard", inference="mode", seed=3, check_numerics=True)
    again = RelaxNormal.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_export_serves_the_mean(tmp_path):
    model = autoencoder(inference="mean")
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(
        loaded.serve(tf.constant(X)), model.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 1), (4, None)])
def test_parameters_do_not_come_in_pairs(shape):
    shown = str(shape).replace("(", r"\(").replace(")", r"\)")
    message = rf"RelaxNormal 'code'.*even number.*last axis.*{shown}.*Dense\(2 \* n\)"
    with pytest.raises(ValueError, match=message):
        normal()(keras.Input(shape[1:], batch_size=4))


def test_scalar_parameters():
    with pytest.raises(ValueError, match=r"RelaxNormal 'code'.*last axis"):
        normal()(tf.zeros(()))


def test_integer_parameters():
    with pytest.raises(TypeError, match=r"RelaxNormal 'code'.*int32"):
        normal()(tf.zeros((4, 2), "int32"))


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ({"prior": "uniform"}, "RelaxNormal 'code': `prior`.*None, 'standard'.*'uniform'"),
        ({"inference": "median"}, "RelaxNormal 'code': `inference`.*'median'"),
    ],
    ids=["prior", "inference"],
)
def test_unknown_option(argument, match):
    with pytest.raises(ValueError, match=match):
        normal(**argument)


@pytest.mark.parametrize("kind", [estimators.Lax, estimators.Dlax, estimators.Nvil])
def test_unknown_surrogate(kind):
    with pytest.raises(ValueError, match="Unknown surrogate 'net'"):
        kind(surrogate="net")


@run_modes
def test_parameters_that_are_not_finite(run_eagerly):
    model = autoencoder(check_numerics=True)
    model.compile("sgd", "mse", estimator="lax", run_eagerly=run_eagerly)
    x = X.copy()
    x[0, 0] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"RelaxNormal 'code'.*NaN"):
        model.fit(x, Y, verbose=0)


def test_only_the_estimators_of_continuous_samples_accept_it():
    layer, accepted = normal(), set()
    for name in estimators.names():
        try:
            estimators.get(name).check(layer)
        except ValueError:
            continue
        accepted.add(name)
    assert accepted == {
        "dlax",
        "lax",
        "leave_one_out",
        "nvil",
        "reinforce",
        "reparameterization",
        "vimco",
    }
