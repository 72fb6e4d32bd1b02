"""One choice among four categories behind an identity, and its exact gradient."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import tensorflow as tf

import tf_relax

LOGITS = np.array([0.4, -1.2, 0.7, -0.1])
TARGET = 0.3


def model_of(estimator, **options):
    """The objective is curved in b; inputs are the logits."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((4,))
    logits = keras.layers.Dense(4, kernel_initializer="identity", name="logits")(inputs)
    layer = tf_relax.layers.RelaxCategorical(name="choice", **options)
    hidden = keras.layers.Dense(3, "tanh", name="hidden")(layer(logits))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1, name="output")(hidden))
    model.compile("sgd", "mse", estimator=estimator)
    return model


def objective(model, b):
    output = model.get_layer("output")(model.get_layer("hidden")(b))
    return tf.reduce_mean((output - TARGET) ** 2, axis=1)


def exact_gradients(model, logits):
    """Derivatives of the sum over the categories, in the logits and in the weights after them."""
    a = tf.constant(logits[np.newaxis])
    weights = [v.value for v in model.trainable_variables if "logits" not in v.path]
    with tf.GradientTape() as tape:
        tape.watch(a)
        p = tf.nn.softmax(a)[0]
        total = tf.reduce_sum(p * objective(model, tf.eye(4, dtype="float64")))
    of_logits, *of_weights = tape.gradient(total, [a, *weights])
    return of_logits.numpy()[0], [g.numpy() for g in of_weights]


def differentiated(model, logits, noise):
    """The step on given noise, `[samples, rows, 4]`."""
    rows = noise.shape[-2]
    x, y = np.tile(logits, (rows, 1)), np.full((rows, 1), TARGET)
    return model.differentiate(tf.constant(x), tf.constant(y), noise=[tf.constant(noise)])


def mutant(module, name, right, wrong):
    """The class of a module in whose source something else is said."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, right
    source = source.replace(
        "@keras.saving.register_keras_serializable", "@(lambda package: lambda c: c)"
    )
    names = {"__name__": "mutant"}
    exec(compile(source.replace(right, wrong), "mutant", "exec"), names)
    return names[name]
