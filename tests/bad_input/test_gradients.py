"""Gradients that do not exist."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.bad_input.models import Subclassed, X, functional, refuses
from tests.models import bernoulli, relax, run_modes
from tf_relax import RelaxModel
from tf_relax.losses import BernoulliNLL
from tf_relax.surrogates import Network, Surrogate


class Unused(Network):
    """A network with a variable that it does not use."""

    def build(self, *shapes):
        super().build(*shapes)
        self.unused = self.add_weight(shape=(2,), name="unused")


class Constant(Surrogate):
    """A surrogate whose value does not depend on z, nor on its variable."""

    def build(self, *shapes):
        self.constant = self.add_weight(shape=(), name="constant")

    def call(self, z, logits, context=None):
        return tf.zeros(tf.shape(z)[:1])


@run_modes
@pytest.mark.parametrize(
    ("surrogate", "name"), [(Unused(units=(2,)), "unused"), (Constant(), "constant")]
)
def test_surrogate_variable_without_gradient(surrogate, name, run_eagerly):
    surrogate = type(surrogate).from_config(surrogate.get_config())
    model, estimator = functional(bernoulli()), relax(surrogate=surrogate)
    model.compile("sgd", "mse", estimator=estimator, run_eagerly=run_eagerly)
    refuses(ValueError, f"surrogate variable.*{name}.*no gradient.*trainable=False", model)


@run_modes
@pytest.mark.parametrize("cut", [tf.stop_gradient, tf.round, lambda x: tf.cast(x > 0.5, x.dtype)])
def test_objective_without_derivative(cut, run_eagerly):
    def call_layer(layer, logits, training):
        return cut(layer(logits, training=training))

    model = Subclassed(bernoulli(), call_layer)
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    model(X)
    message = "no derivative.*RelaxBernoulli 'code'.*surrogate='network'.*reinforce"
    refuses(ValueError, message, model)


def test_operation_without_second_derivative():
    """A part of the temperature's gradient would be lost; the rest alone points elsewhere."""
    inputs = keras.Input((2, 2, 1))
    code = bernoulli()(keras.layers.Conv2D(1, 1)(inputs))
    model = RelaxModel(inputs, keras.layers.Resizing(3, 3)(code) ** 2)
    model.compile("sgd", BernoulliNLL(), estimator=relax())
    x, y = np.ones((4, 2, 2, 1), "float32"), np.ones((4, 3, 3, 1), "float32")
    refuses(ValueError, "second derivative.*learn_temperature=False", model, x, y)
    model.compile("sgd", BernoulliNLL(), estimator=relax(learn_temperature=False))
    scale = model.estimator_state["code"].scale.numpy()
    model.train_on_batch(x, y)
    assert model.estimator_state["code"].scale.numpy() != scale


@run_modes
def test_training_in_a_plain_keras_model(run_eagerly):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4)(code))
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    refuses(LookupError, "RelaxBernoulli 'code'.*RelaxModel.*tf.stop_gradient", model)


@pytest.mark.parametrize("inference", ["sample", "mode"])
@pytest.mark.parametrize("training", [True, False])
def test_gradient_tape_outside_of_a_relax_model(training, inference):
    layer = bernoulli(inference=inference)
    logits = tf.Variable([[0.5, -1.0]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(logits, training=training))
    with pytest.raises(LookupError, match=r"RelaxBernoulli 'code'.*RelaxModel.*tf.stop_gradient"):
        tape.gradient(total, logits)


def test_stop_gradient_is_the_way_out():
    logits = tf.Variable([[0.5, -1.0]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.stop_gradient(bernoulli()(logits)) * logits)
    assert set(tape.gradient(total, logits).numpy().ravel()) <= {0.0, 1.0}


def test_mean_has_an_ordinary_gradient():
    logits = tf.Variable([[0.0]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(bernoulli(inference="mean")(logits, training=False))
    np.testing.assert_allclose(tape.gradient(total, logits), [[0.25]])
