"""Losses without one value per example."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.bad_input.models import Subclassed, X, Y, functional, refuses, two_outputs
from tests.models import bernoulli, relax, run_modes, scalar_loss
from tf_relax import RelaxModel
from tf_relax.losses import BernoulliNLL


class ScalarLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return scalar_loss(y_true, y_pred)


@run_modes
@pytest.mark.parametrize("loss", [scalar_loss, ScalarLoss(name="scalar_loss")])
def test_loss_without_values_per_example(loss, run_eagerly):
    model = functional(bernoulli())
    model.compile("sgd", loss, estimator=relax(), run_eagerly=run_eagerly)
    refuses(ValueError, "'scalar_loss'.*one value per example", model)


@pytest.mark.parametrize(
    ("container", "loss"),
    [
        (dict, {"a": "mse", "b": scalar_loss}),
        (dict, {"a": None, "b": scalar_loss}),
        (dict, {"b": scalar_loss}),
        (dict, scalar_loss),
        (lambda outputs: list(outputs.values()), ["mse", scalar_loss]),
        (lambda outputs: list(outputs.values()), [None, scalar_loss]),
        (lambda outputs: list(outputs.values()), {"a": "mse", "b": scalar_loss}),
        (lambda outputs: list(outputs.values()), scalar_loss),
    ],
    ids=["dict", "dict_none", "dict_one", "dict_same", "list", "list_none", "named", "list_same"],
)
def test_one_of_several_losses_without_values_per_example(container, loss):
    model = two_outputs(container)
    model.compile("sgd", loss, estimator=relax(), run_eagerly=True)
    y = container({"a": Y, "b": Y})
    refuses(ValueError, "'scalar_loss'.*one value per example", model, y=y)


@pytest.mark.parametrize("reduction", [None, "none", "mean_with_sample_weight"])
def test_reduction_without_values_per_example(reduction):
    model = functional(bernoulli())
    model.compile(
        "sgd",
        keras.losses.MeanSquaredError(reduction=reduction),
        estimator=relax(),
        run_eagerly=True,
    )
    refuses(ValueError, "reduction.*'sum_over_batch_size' or 'sum'", model)


@run_modes
def test_scalar_add_loss_that_depends_on_a_sample(run_eagerly):
    def call_layer(layer, logits, training):
        sample = layer(logits, training=training)
        layer.add_loss(keras.ops.mean(keras.ops.abs(sample)))
        return sample

    model = Subclassed(bernoulli(), call_layer, name="model")
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    model(X)
    refuses(ValueError, "RelaxModel 'model'.*scalar `add_loss`.*one value per example", model)


@run_modes
def test_activity_regularizer_of_a_sample(run_eagerly):
    """Keras makes one scalar of the whole batch of it."""
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(4, activity_regularizer="l2")(code))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    refuses(ValueError, "scalar `add_loss`.*one value per example", model)


class MoreLoss(Subclassed):
    """Adds to the loss what no weight of an example scales."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + keras.ops.mean(keras.ops.abs(y_pred))


@run_modes
def test_compute_loss_with_a_part_that_ignores_the_weights(run_eagerly):
    model = MoreLoss(bernoulli(), lambda layer, logits, training: layer(logits, training=training))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    model(X)
    # Found in the numbers of a step, where TensorFlow's own errors are all there is.
    error = (ValueError, tf.errors.InvalidArgumentError)
    refuses(error, "(?s)compute_loss.*sample_weight", model)


def test_mismatching_shapes_of_the_likelihood():
    with pytest.raises(ValueError, match=r"BernoulliNLL.*same shape.*\(2, 3\).*\(2, 3, 1\)"):
        BernoulliNLL()(np.zeros((2, 3)), np.zeros((2, 3, 1)))
    with pytest.raises(ValueError, match="same shape"):
        BernoulliNLL()(np.zeros((2, 1)), np.zeros((2, 3)))
