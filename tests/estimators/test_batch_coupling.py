"""Batch statistics of samples tie examples together; the estimate must follow."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators.learned import objective_and_network, taught
from tests.oracles import binary_strings, logistic_rule, product_grid
from tf_relax.estimators import Rebar, Reinforce, Relax

X = tf.constant([[0.5], [-1.0]], "float64")
Y = tf.constant([[0.3], [-0.2]], "float64")


pytestmark = pytest.mark.usefixtures("float64")


def normalised_samples():
    """x -> one unit -> BatchNormalization of the samples -> y; smooth, so that nodes suffice."""
    keras.utils.set_random_seed(2)
    unit = tf_relax.layers.RelaxBernoulli()
    inputs = keras.Input((1,))
    b = unit(keras.layers.Dense(1, name="encoder")(inputs))
    normal = keras.layers.BatchNormalization(epsilon=1.0, name="norm")(b)
    hidden = keras.layers.Dense(2, activation="tanh")(normal)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(hidden))
    return model


def compiled(model, estimator, **options):
    estimator = taught(estimator, objective_and_network(1), temperature=0.5)
    model.compile("sgd", loss="mse", estimator=estimator, jit_compile=False, **options)
    (state,) = model.estimator_state.by_layer.values()
    if getattr(state, "surrogate", None) is not None:
        for variable in state.surrogate.surrogates[1].trainable_variables:
            variable.assign(np.ones(variable.shape))


def exact_gradient(model):
    """Gradient of E[mean f] in the encoder's weights, over the four samples of two examples."""
    encoder, norm, *decoder = [
        model.get_layer("encoder"),
        model.get_layer("norm"),
        *model.layers[-2:],
    ]
    with tf.GradientTape() as tape:
        total = 0.0
        logits = encoder(X)
        for b in binary_strings(2):
            with keras.StatelessScope():
                output = norm(b[:, None], training=True)
            for layer in decoder:
                output = layer(output)
            log_q = tf.reduce_sum(b[:, None] * logits - tf.nn.softplus(logits))
            total += tf.exp(log_q) * tf.reduce_mean((output - Y) ** 2)
    return tape.gradient(total, encoder.kernel.value).numpy()


def integrated_gradient(model, nodes=20):
    logits = model.get_layer("encoder")(X).numpy()[:, 0]
    axes = [logistic_rule(-a, nodes) for a in logits]

    @tf.function
    def gradient(noise):
        step = model.differentiate(X, Y, noise=[noise])
        kernel = model.get_layer("encoder").kernel
        return next(g for v, g in zip(step.variables, step.gradients, strict=False) if v is kernel)

    return sum(
        w * gradient(tf.constant(noise[:, None])).numpy()
        for noise, w in zip(*product_grid(axes), strict=False)
    )


@pytest.mark.parametrize("estimator", [Relax(), Rebar(), Reinforce()], ids=repr)
def test_unbiased_through_batch_norm_of_samples(estimator):
    model = normalised_samples()
    compiled(model, estimator)
    np.testing.assert_allclose(integrated_gradient(model), exact_gradient(model), atol=1e-9)


def test_ignoring_the_coupling_is_biased():
    model = normalised_samples()
    compiled(model, "relax", batch_coupled=False)
    assert np.abs(integrated_gradient(model) - exact_gradient(model)).max() > 1e-4


@pytest.mark.parametrize("eager", [True, False])
def test_batch_norm_before_the_samples_does_not_couple(eager):
    inputs = keras.Input((1,))
    normal = keras.layers.BatchNormalization()(inputs)
    b = tf_relax.layers.RelaxBernoulli()(keras.layers.Dense(2)(normal))
    after = tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(b))
    couples = normalised_samples()
    for model, expected in ((after, False), (couples, True)):
        model.compile("sgd", loss="mse", run_eagerly=eager)

        def step(model=model):
            return tf.constant(model.differentiate(X, Y).sites.batch_coupled)

        assert bool((step if eager else tf.function(step))()) is expected
