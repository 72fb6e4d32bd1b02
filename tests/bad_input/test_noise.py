"""Noise of the wrong number or shape."""

import re

import keras
import pytest
import tensorflow as tf

from tests.bad_input.models import X, Y, functional, unchanged
from tests.models import bernoulli, relax, run_modes
from tf_relax import RelaxModel, estimators


@run_modes
@pytest.mark.parametrize(
    ("estimator", "shape", "expected"),
    [
        ("relax", (4, 3), "(4, 4)"),
        ("relax", (2, 4, 4), "(4, 4)"),
        (estimators.Relax(num_samples=3), (4, 4), "(3, 4, 4)"),
        ("leave_one_out", (4, 4), "(2, 4, 4)"),
        ("leave_one_out", (3, 4, 4), "(2, 4, 4)"),
        ("disarm", (1, 4, 4), "(2, 4, 4)"),
        (estimators.Arms(num_samples=3), (2, 4, 4), "(3, 4, 4)"),
    ],
)
def test_wrong_number_of_noise_tensors(estimator, shape, expected, run_eagerly):
    model = functional(bernoulli())
    model.compile("sgd", "mse", estimator=estimator)

    def step():
        return model.differentiate(tf.constant(X), tf.constant(Y), noise=[tf.zeros(shape)]).loss

    step = step if run_eagerly else tf.function(step)
    needs, received = (re.escape(str(each)) for each in (expected, shape))
    message = f"'code', needs noise of shape {needs}. Received: shape {received}"
    with unchanged(model), pytest.raises(ValueError, match=message):
        step()


def test_noise_for_fewer_layers_than_there_are():
    inputs = keras.Input((3,))
    first = bernoulli(name="first")(keras.layers.Dense(4)(inputs))
    second = bernoulli(name="second")(keras.layers.Dense(4)(first))
    model = RelaxModel(inputs, second)
    model.compile("sgd", "mse", estimator=relax())
    with pytest.raises(ValueError, match=r"Call 1.*'second', needs noise.*Received: none"):
        model.differentiate(tf.constant(X), tf.constant(Y), noise=[tf.zeros((4, 4))])


def test_noise_for_more_layers_than_there_are():
    model = functional(bernoulli())
    model.compile("sgd", "mse", estimator=relax())
    with pytest.raises(ValueError, match="noise"):
        model.differentiate(tf.constant(X), tf.constant(Y), noise=[tf.zeros((4, 4))] * 2)


def test_wrong_number_of_conditional_noise_tensors():
    model = functional(bernoulli())
    model.compile("sgd", "mse", estimator=estimators.Relax(num_samples=2, num_conditional=2))
    x, y, noise = tf.constant(X), tf.constant(Y), [tf.zeros((2, 4, 4))]
    with pytest.raises(ValueError, match=r"'code', needs noise of shape \(2, 4, 4\)"):
        model.differentiate(x, y, noise=noise, conditional_noise=[tf.zeros((4, 4))])
    model.differentiate(x, y, noise=noise, conditional_noise=[tf.zeros((2, 4, 4))])
