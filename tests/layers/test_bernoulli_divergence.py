"""What the Bernoulli layer adds to the loss: its divergence from a prior, and the weight of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import oracles
from tests.layers.models import divergence
from tests.models import bernoulli
from tf_relax import RelaxModel
from tf_relax.sites import Record

LOGITS = np.array([[-80.0, -1.0, 0.0], [0.5, 3.0, 80.0]], "float32")


def sigmoid(a):
    return oracles.sigmoid(np.asarray(a, "float64"))


def binary_kl(q, p):
    """By enumeration of every binary vector, `[batch]`."""
    strings = oracles.binary_strings(q.shape[1])[:, None]  # [2^units, 1, units]
    log_q = (strings * np.log(q) + (1 - strings) * np.log(1 - q)).sum(axis=2)
    log_p = (strings * np.log(p) + (1 - strings) * np.log(1 - p)).sum(axis=2)
    return (np.exp(log_q) * (log_q - log_p)).sum(axis=0)


PRIORS = {
    "uniform": ("uniform", np.zeros(3)),
    "learned": ("learned", np.array([0.5, -1.0, 2.0])),
    "number": (0.75, np.full(3, 0.75)),
    "vector": ([0.5, -1.0, 2.0], np.array([0.5, -1.0, 2.0])),
}


def with_prior(kind, **arguments):
    prior, values = PRIORS[kind]
    layer = bernoulli(prior=prior, **arguments)
    layer.build((None, 3))
    if kind == "learned":
        np.testing.assert_array_equal(layer.prior_logits, np.zeros(3))
        (variable,) = [v for v in layer.trainable_variables if v.name == "prior_logits"]
        variable.assign(values)
    np.testing.assert_allclose(layer.prior_logits + np.zeros(3), values)
    return layer, values


@pytest.mark.parametrize("kind", PRIORS)
def test_analytic_divergence_equals_enumeration(kind, rng):
    layer, prior = with_prior(kind)
    logits = rng.normal(size=(4, 3)).astype("float32")
    layer(logits, training=True)
    np.testing.assert_allclose(
        divergence(layer), binary_kl(sigmoid(logits), sigmoid(prior)), rtol=1e-5
    )


@pytest.mark.parametrize("kind", PRIORS)
def test_sampled_divergence_is_the_log_ratio_at_the_sample(kind, rng):
    layer, prior = with_prior(kind, kl="sampled")
    logits = rng.normal(size=(4, 3)).astype("float32")
    b = np.asarray(layer(logits, training=True))
    q, p = sigmoid(logits), sigmoid(prior)
    log_ratio = b * np.log(q / p) + (1 - b) * np.log((1 - q) / (1 - p))
    np.testing.assert_allclose(divergence(layer), log_ratio.sum(axis=1), rtol=1e-4, atol=1e-6)


def test_sampled_divergence_has_the_analytic_mean(rng, seed):
    """40,000 examples of the same logits; 5 standard errors."""
    n, logits = 40_000, rng.normal(size=(1, 3)).astype("float32")
    layer, prior = with_prior("vector", kl="sampled", seed=seed)
    layer(np.repeat(logits, n, axis=0), training=True)
    values = divergence(layer)
    exact = binary_kl(sigmoid(logits), sigmoid(prior))[0]
    assert abs(values.mean() - exact) < 5 * values.std() / np.sqrt(n)


def test_divergence_sums_over_the_event(rng):
    logits = rng.normal(size=(4, 2, 3)).astype("float32")
    values = []
    for shape in ((4, 2, 3), (4, 6)):
        layer = bernoulli(prior="learned")
        layer(logits.reshape(shape), training=True)
        values.append(divergence(layer))
    np.testing.assert_allclose(*values, rtol=1e-6)


def test_no_prior_no_divergence():
    layer = bernoulli()
    layer(LOGITS, training=True)
    assert layer.losses == []
    with pytest.raises(ValueError, match="'code' has no prior"):
        _ = layer.prior_logits


@pytest.mark.parametrize("inference", ["sample", "mode", "mean"])
def test_divergence_is_part_of_the_loss_in_evaluation(inference):
    layer = bernoulli(prior="uniform", inference=inference)
    layer(LOGITS[:, 1:2], training=False)
    q = sigmoid(LOGITS[:, 1:2])
    np.testing.assert_allclose(divergence(layer), binary_kl(q, np.array([0.5])), rtol=1e-5)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_and_its_gradients_far_out(kl, dtype):
    """Where a probability rounds to 0 or 1, in value and in both derivatives."""
    logits = tf.Variable([[80.0, -80.0, 80.0, -80.0, 0.0]], dtype=dtype)
    prior = np.array([80.0, -80.0, -80.0, 80.0, 80.0])
    layer = bernoulli(prior="learned", kl=kl, dtype=dtype)
    layer.build((None, 5))
    (variable,) = [v for v in layer.trainable_variables if v.name == "prior_logits"]
    variable.assign(prior)
    # Inside a RelaxModel the estimator, not the sample, is differentiated.
    constant = Record(output=lambda site: tf.stop_gradient(site.b))
    with tf.GradientTape() as tape, constant:
        b = layer(logits, training=True)
        (value,) = layer.losses
    assert set(np.unique(b)) <= {0.0, 1.0}
    gradients = tape.gradient(value, [logits, variable.value])
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    fair = 80 - np.log(2) - 80 * (0.5 if kl == "analytic" else float(b[0, 4]))
    np.testing.assert_allclose(value, [0 + 0 + 80 + 80 + fair], rtol=1e-5)
    if kl == "analytic":
        # d KL / da = (a - a0) p (1 - p), d KL / da0 = sigmoid(a0) - sigmoid(a).
        np.testing.assert_allclose(gradients[0], [[0, 0, 0, 0, -20]], atol=1e-4)
        np.testing.assert_allclose(gradients[1], [0, 0, -1, 1, 0.5], atol=1e-6)


# ------------------------------------------------------------------------------ weight


def test_weight_of_the_divergence():
    layer = bernoulli(prior="uniform", kl_weight=0.25)
    layer(LOGITS[:, 1:2], training=True)
    expected = binary_kl(sigmoid(LOGITS[:, 1:2]), np.array([0.5]))
    np.testing.assert_allclose(divergence(layer), 0.25 * expected, rtol=1e-5)
    layer.kl_weight.assign(2.0)
    layer(LOGITS[:, 1:2], training=True)
    np.testing.assert_allclose(divergence(layer), 2 * expected, rtol=1e-5)
    assert all(variable is not layer.kl_weight for variable in layer.trainable_variables)


def test_weight_is_annealed_in_a_compiled_step():
    """Logits that the divergence alone reaches: the weight is read anew in every step."""
    layer = bernoulli(prior="uniform", kl_weight=0.0)
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(2, use_bias=False, kernel_initializer="identity")
    model = RelaxModel(inputs, layer(dense(inputs)))
    model.compile(keras.optimizers.SGD(0.1), estimator="reinforce", jit_compile=False)
    weights, kernels = [], []

    def anneal(epoch, logs):
        layer.kl_weight.assign(epoch / 2)
        weights.append(float(layer.kl_weight.numpy()))
        kernels.append(dense.kernel.numpy())

    x = np.eye(2, dtype="float32")
    callback = keras.callbacks.LambdaCallback(on_epoch_begin=anneal)
    history = model.fit(x, epochs=3, verbose=0, callbacks=[callback])
    kernels.append(dense.kernel.numpy())
    np.testing.assert_array_equal(weights, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(kernels[1], kernels[0])
    assert (kernels[2] != kernels[1]).any()
    kl = [binary_kl(sigmoid(x @ kernel), np.full(2, 0.5)).mean() for kernel in kernels[:3]]
    np.testing.assert_allclose(
        history.history["loss"], np.multiply(weights, kl), rtol=1e-5, atol=1e-7
    )
