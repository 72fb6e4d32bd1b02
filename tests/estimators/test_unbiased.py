"""E[g] against the exact gradient: one Bernoulli by quadrature over the noise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators.one_bernoulli import (
    TARGET,
    exact_gradient,
    integrated_estimate,
    one_bernoulli,
    set_integers,
)
from tests.oracles import logistic_rule, sigmoid
from tf_relax.estimators import Rebar, Reinforce, Relax

UNBIASED = [
    Relax(),
    Relax(coupled=False),
    Rebar(),
    Rebar(coupled=False),
    Reinforce(),
    Reinforce(baseline="moving_average"),
]


pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("logit", [-1.5, 0.25, 1.0])
@pytest.mark.parametrize("estimator", UNBIASED, ids=repr)
def test_one_bernoulli(estimator, logit, kl):
    model = one_bernoulli(logit, kl=kl)
    model.compile("sgd", loss="mse", estimator=estimator, run_eagerly=True)
    model.get_layer("unit").baseline.assign(0.4)
    assert integrated_estimate(model, logit) == pytest.approx(
        exact_gradient(model, logit, kl), abs=1e-9
    )


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize(
    "estimator", [Relax(), Relax(coupled=False), Rebar(), Reinforce()], ids=repr
)
def test_one_bernoulli_compiled(estimator, mode):
    model = one_bernoulli(0.25)
    model.compile("sgd", loss="mse", estimator=estimator)
    assert integrated_estimate(model, 0.25, mode) == pytest.approx(
        exact_gradient(model, 0.25, "analytic"), abs=1e-9
    )


@pytest.mark.parametrize("coupled", [True, False])
def test_black_box_that_cannot_be_differentiated(coupled):
    def cost(y_true, y_pred):
        assert set(np.unique(y_pred)) <= {0.0, 1.0}  # never called at relaxed samples
        return (y_pred[:, 0] - y_true[:, 0]) ** 2

    logit = 0.25
    inputs = keras.Input((1,))
    constant = keras.initializers.Constant(logit)
    logits = keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer=constant)
    network = tf_relax.surrogates.Network((3,), "tanh")
    unit = tf_relax.layers.RelaxBernoulli(surrogate=network)
    model = tf_relax.RelaxModel(inputs, unit(logits(inputs)))
    set_integers(unit)
    loss = tf_relax.losses.BlackBox(cost)
    model.compile("sgd", loss=loss, estimator=Relax(coupled=coupled), run_eagerly=True)
    p = sigmoid(logit)
    exact = p * (1 - p) * ((1 - TARGET) ** 2 - TARGET**2)
    assert integrated_estimate(model, logit) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("estimator", UNBIASED, ids=repr)
def test_every_weight_with_a_learned_prior(estimator, kl):
    """The whole step, one node at a time: estimate, derivative of the divergence, decoder."""
    logit = 0.25
    model = one_bernoulli(logit, prior="learned", kl=kl)
    model.get_layer("unit")._prior_variable.assign([-0.5])
    model.compile("sgd", loss="mse", estimator=estimator, jit_compile=False)
    model.get_layer("unit").baseline.assign(0.4)
    x, y = tf.ones((1, 1), "float64"), tf.fill((1, 1), tf.constant(TARGET, "float64"))

    @tf.function
    def gradients(noise, conditional):
        conditional = [conditional] if estimator.needs_conditional else None
        step = model.differentiate(x, y, noise=[noise], conditional_noise=conditional)
        pairs = zip(step.variables, step.gradients, strict=True)
        return {variable.path: g for variable, g in pairs if g is not None}

    def exact():
        with tf.GradientTape() as tape:
            total = 0.0
            for b in (0.0, 1.0):
                a = model.layers[1](x)
                output = tf.fill((1, 1), tf.constant(b, "float64"))
                for layer in model.layers[-2:]:
                    output = layer(output)
                log_q = b * a - tf.nn.softplus(a)
                prior = model.get_layer("unit").prior_logits
                log_p = b * prior - tf.nn.softplus(prior)
                f = (output - TARGET) ** 2 + log_q - log_p
                total += tf.reduce_sum(tf.exp(log_q) * f)
        return tape.gradient(total, [v.value for v in model.trainable_variables])

    rule = logistic_rule(-logit, nodes=16)
    other = logistic_rule(0.0, nodes=16) if estimator.needs_conditional else ([0.0], [1.0])
    expected = dict(zip([v.path for v in model.trainable_variables], exact(), strict=False))
    mean = dict.fromkeys(expected, 0.0)
    for l_z, w_z in zip(*rule, strict=False):
        for l_tilde, w_tilde in zip(*other, strict=False):
            model.get_layer("unit").baseline.assign(0.4)
            found = gradients(tf.constant([[l_z]]), tf.constant([[l_tilde]], "float64"))
            for path, gradient in found.items():
                mean[path] += w_z * w_tilde * gradient.numpy()
    for path, gradient in expected.items():
        if gradient is not None:
            np.testing.assert_allclose(mean[path], gradient, atol=1e-9, err_msg=path)
