"""The importance-weighted bound against exact likelihoods of models small enough to enumerate."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.oracles import binary_strings

IMAGE = np.array([[1.0, 0.0, 1.0]], "float32")


def log_bernoulli(x, logits):
    return np.sum(x * logits - np.logaddexp(0, logits), axis=-1)


def one_layer(**options):
    inputs = keras.Input((3,))
    logits = keras.layers.Dense(2, name="logits")(inputs)
    code = tf_relax.layers.RelaxBernoulli(prior="learned", name="code", **options)(logits)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3, name="pixels")(code))
    model.get_layer("code")._prior_variable.assign([0.5, -1.0])
    # The same model in every run, whose q is far from the posterior: the bounds differ clearly.
    rng = np.random.default_rng(0)
    for name in ("logits", "pixels"):
        kernel = model.get_layer(name).kernel
        kernel.assign(rng.normal(size=kernel.shape))
    model.compile("sgd", tf_relax.losses.BernoulliNLL(), jit_compile=False)
    return model


def terms(model):
    """log p(x, b) and log q(b | x) of the four codes."""
    codes = binary_strings(2).astype("float32")
    logits = model.get_layer("logits")(IMAGE).numpy()
    prior = model.get_layer("code").prior_logits.numpy()
    pixels = model.get_layer("pixels")(codes).numpy()
    log_p = log_bernoulli(IMAGE, pixels) + log_bernoulli(codes, prior)
    return log_p, log_bernoulli(codes, logits)


@pytest.mark.parametrize("inference", ["sample", "mode", "mean"])
def test_many_samples_reach_the_likelihood_and_one_gives_the_elbo(inference):
    model = one_layer(inference=inference, kl_weight=0.3)  # the bound counts the prior in full
    log_p, log_q = terms(model)
    likelihood = np.logaddexp.reduce(log_p)
    elbo = np.sum(np.exp(log_q) * (log_p - log_q))
    deviation = np.sqrt(np.sum(np.exp(log_q) * (log_p - log_q - elbo) ** 2))
    copies = np.tile(IMAGE, (4000, 1))
    options = {"batch_size": 4000, "verbose": 0}
    one = tf_relax.metrics.importance_weighted_bound(model, copies, num_samples=1, **options)
    assert one == pytest.approx(elbo, abs=5 * deviation / np.sqrt(4000))
    many = tf_relax.metrics.importance_weighted_bound(model, copies, num_samples=500, **options)
    # The gap of K samples is about the relative variance of the weights over 2 K.
    gap = np.sum(np.exp(log_q) * np.exp(2 * (log_p - log_q - likelihood))) / 1000
    assert likelihood - 3 * gap < many < likelihood + 1e-3
    assert likelihood - elbo > 0.05


def test_hierarchy():
    """p(b2) p(b1 | b2) p(x | b1): the bound of many samples is the likelihood of the joint."""
    inputs = keras.Input((3,))
    a_1 = keras.layers.Dense(2, name="a_1")(inputs)
    b_1 = tf_relax.layers.RelaxBernoulli()(a_1)
    b_2 = tf_relax.layers.RelaxBernoulli(prior="uniform")(keras.layers.Dense(1)(b_1))
    b_1 = tf_relax.layers.ConditionalPrior()(b_1, a_1, keras.layers.Dense(2, name="prior")(b_2))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3, name="pixels")(b_1))
    model.compile("sgd", tf_relax.losses.BernoulliNLL(), jit_compile=False)
    joint = []
    for code in binary_strings(3).astype("float32"):
        prior = model.get_layer("prior")(code[None, 2:]).numpy()
        pixels = model.get_layer("pixels")(code[None, :2]).numpy()
        log_p = log_bernoulli(code[:2], prior) + log_bernoulli(IMAGE, pixels) - np.log(2)
        joint.append(log_p[0])
    copies = np.tile(IMAGE, (2000, 1))
    bound = tf_relax.metrics.importance_weighted_bound(
        model, copies, num_samples=500, batch_size=2000, verbose=0
    )
    assert bound == pytest.approx(np.logaddexp.reduce(joint), abs=0.01)


def test_partial_batches_and_compiled():
    model = one_layer()
    model.compile("sgd", tf_relax.losses.BernoulliNLL(), jit_compile=True)
    images = np.eye(3, dtype="float32")
    bound = tf_relax.metrics.importance_weighted_bound(
        model, images, images, num_samples=50, batch_size=2, verbose=0
    )
    assert np.isfinite(bound)


def test_bad_input():
    inputs = keras.Input((3,))
    code = tf_relax.layers.RelaxBernoulli()(keras.layers.Dense(2)(inputs))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3)(code))
    model.compile("sgd", tf_relax.losses.BernoulliNLL())
    with pytest.raises(ValueError, match="has no prior"):
        tf_relax.metrics.importance_weighted_bound(model, IMAGE)
    with pytest.raises(ValueError, match="at least 1"):
        tf_relax.metrics.importance_weighted_bound(one_layer(), IMAGE, num_samples=0)


def test_hierarchical_divergence_is_the_joint_one():
    """E_q of the objective = KL(q(b1, b2 | x) || p(b1, b2)), by enumeration."""
    keras.utils.set_random_seed(0)
    prior_layer, below = keras.layers.Dense(2), keras.layers.Dense(1)
    a_1 = tf.constant([[0.4, -0.7]])
    layer = tf_relax.layers.ConditionalPrior("bernoulli")
    expected = found = 0.0
    for b in binary_strings(3).astype("float32"):
        b_1, b_2 = tf.constant(b[None, :2]), tf.constant(b[None, 2:])
        prior_logits, a_2 = prior_layer(b_2), below(b_1)
        log_q1, log_q2 = log_bernoulli(b_1, a_1.numpy()), log_bernoulli(b_2, a_2.numpy())
        log_p = log_bernoulli(b_1, prior_logits.numpy())
        layer(b_1, a_1, prior_logits)
        weight = np.exp(log_q1 + log_q2)[0]
        found += weight * float(layer.losses[0][0])
        expected += weight * float((log_q1 - log_p)[0])
        with tf_relax.sites.Record(divergence="sampled"):
            layer(b_1, a_1, prior_logits)
        assert float(layer.losses[0][0]) == pytest.approx(float((log_q1 - log_p)[0]), abs=1e-5)
    assert found == pytest.approx(expected, abs=1e-5)


def test_hierarchy_with_a_conditional_prior():
    """The prior of the first layer is a layer of its own: ``p(b_1 | b_2)``."""
    inputs = keras.Input((3,))
    a_1 = keras.layers.Dense(1, kernel_initializer="ones", name="a_1")(inputs)
    b_1 = tf_relax.layers.RelaxBernoulli()(a_1)
    a_2 = keras.layers.Dense(1, kernel_initializer="ones", name="a_2")(b_1)
    b_2 = tf_relax.layers.RelaxBernoulli()(a_2)
    prior = keras.layers.Dense(1, kernel_initializer="ones", name="prior")(b_2)
    b_1 = tf_relax.layers.ConditionalPrior()(b_1, a_1, prior)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3, name="pixels")(b_1))
    model.compile("sgd", tf_relax.losses.BernoulliNLL(), jit_compile=False)
    codes = np.array([[i, j] for i in (0.0, 1.0) for j in (0.0, 1.0)], "float32")
    b_1, b_2 = codes[:, :1], codes[:, 1:]
    # a_1 = 2 (two pixels are on), a_2 = b_1, prior = b_2; p(b_2) is not part of this model.
    log_q_1, log_q_2 = log_bernoulli(b_1, 2.0), log_bernoulli(b_2, b_1)
    log_p = log_bernoulli(IMAGE, model.get_layer("pixels")(b_1).numpy()) + log_bernoulli(b_1, b_2)
    weights, q = log_p - log_q_1, np.exp(log_q_1 + log_q_2)
    assert q.sum() == pytest.approx(1)
    elbo = np.sum(q * weights)
    deviation = np.sqrt(np.sum(q * (weights - elbo) ** 2) / 4000)
    copies = np.tile(IMAGE, (4000, 1))
    options = {"batch_size": 4000, "verbose": 0}
    one = tf_relax.metrics.importance_weighted_bound(model, copies, num_samples=1, **options)
    assert one == pytest.approx(elbo, abs=5 * deviation)
    many = tf_relax.metrics.importance_weighted_bound(model, copies, num_samples=300, **options)
    assert many == pytest.approx(np.log(np.sum(q * np.exp(weights))), abs=0.02)
