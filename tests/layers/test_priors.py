"""Priors of one kind for all layers: flat, learned or given, by formula or from the sample."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tf_relax
from tests.layers.models import divergence
from tf_relax.layers import RelaxNormal, RelaxSample

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tests.priors")
def gaussian(a):
    return tfd.Normal(a, 1.5)


LAYERS = {
    "normal": (lambda **a: RelaxNormal(**a), 6),
    "sample": (lambda **a: RelaxSample(gaussian, **a), 3),
}


def distribution(name, a):
    if name == "sample":
        return tfd.Normal(a, tf.constant(1.5, a.dtype))
    mean, log_scale = tf.split(a, 2, axis=-1)
    return tfd.Normal(mean, tf.exp(log_scale))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("prior", ["learned", "given"])
def test_divergence_by_formula(name, prior, rng):
    make, size = LAYERS[name]
    logits, held_against = tf.constant(rng.normal(size=(4, size))), rng.normal(size=size)
    layer = make(prior=held_against if prior == "given" else "learned", kl_weight=0.5)
    layer(logits, training=True)
    if prior == "learned":
        (variable,) = layer.trainable_variables
        assert variable.name == "prior_logits"
        np.testing.assert_array_equal(variable, np.zeros(size))
        variable.assign(held_against)
        layer(logits, training=True)
    expected = tfd.kl_divergence(
        distribution(name, logits), distribution(name, tf.constant(held_against))
    )
    np.testing.assert_allclose(divergence(layer), 0.5 * tf.reduce_sum(expected, axis=1))
    layer.kl_weight.assign(0.0)  # annealing
    layer(logits, training=True)
    np.testing.assert_array_equal(divergence(layer), np.zeros(4))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", LAYERS)
def test_sampled_divergence_has_the_same_mean(name, rng):
    """20,000 samples: 5 standard errors are exceeded once in 10^6 runs."""
    make, size = LAYERS[name]
    row, held_against = rng.normal(size=(1, size)), rng.normal(size=size)
    found = {}
    for kl in ("analytic", "sampled"):
        layer = make(prior=held_against, kl=kl, seed=1)
        layer(tf.constant(np.repeat(row, 20_000, axis=0)), training=True)
        found[kl] = divergence(layer)
    error = found["sampled"].std() / np.sqrt(20_000)
    assert error > 0
    assert abs(found["sampled"].mean() - found["analytic"][0]) < 5 * error


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("estimator", ["lax", "reparameterization", "reinforce"])
def test_a_learned_prior_is_fitted(name, estimator):
    """With nothing to gain from the samples, prior and posterior meet."""
    make, size = LAYERS[name]
    keras.utils.set_random_seed(0)
    inputs = keras.Input((1,))
    bias = keras.initializers.Constant(0.7)
    logits = keras.layers.Dense(size, kernel_initializer="zeros", bias_initializer=bias)(inputs)
    code = make(prior="learned", name="code")(logits)
    outputs = keras.layers.Dense(1, kernel_initializer="zeros")(code)
    model = tf_relax.RelaxModel(inputs, outputs)
    model.layers[-1].trainable = False
    model.compile(keras.optimizers.Adam(0.05), "mse", estimator=estimator)
    x = np.ones((32 * 200, 1), "float32")
    model.fit(x, 0 * x, batch_size=32, epochs=2, verbose=0)
    prior = model.get_layer("code").prior_logits.numpy()
    posterior = model.layers[1](x[:1])[0].numpy()
    np.testing.assert_allclose(prior, posterior, atol=0.1)
    assert np.abs(prior).min() > 0.1  # not where it began


@pytest.mark.parametrize("name", LAYERS)
def test_saved_with_its_model(name, tmp_path):
    make, size = LAYERS[name]
    inputs = keras.Input((size,))
    code = make(prior="learned", kl="sampled", kl_weight=0.3, name="code")(inputs)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(code))
    model.compile("adam", "mse", estimator="lax")
    x = np.ones((4, size), "float32")
    model.fit(x, x[:, :1], verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").get_layer("code")
    layer = model.get_layer("code")
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again.prior_logits, layer.prior_logits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RelaxNormal(prior="uniform"), "None, 'standard', 'learned' or logits.*'uniform'"),
        (lambda: RelaxSample(gaussian, prior="flat"), "None, 'learned' or logits.*'flat'"),
        (lambda: RelaxNormal(kl="exact"), "`kl` must be 'analytic' or 'sampled'.*'exact'"),
    ],
)
def test_unknown_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_function_has_no_logits():
    layer = RelaxSample(gaussian, prior=lambda: tfd.Normal(0.0, 1.0), name="code")
    layer(tf.zeros((2, 3)))
    with pytest.raises(ValueError, match="'code' has a function for a prior"):
        layer.prior_logits  # noqa: B018
