"""Models that are watched, and measurements of single layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tf_relax._src.callbacks import watch_measure
from tf_relax.callbacks import Watch

X = np.random.default_rng(0).standard_normal((16, 3)).astype("float32")


def compiled(estimator="disarm", learning_rate=0.01, units=2, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization()(inputs)
    code = tf_relax.layers.RelaxBernoulli(name="code")(keras.layers.Dense(units)(x))
    outputs = keras.layers.Dense(3, dtype="float32")(keras.layers.Dropout(0.2)(code))
    model = tf_relax.RelaxModel(inputs, outputs)
    options = {"jit_compile": False, "loss": "mse", **options}
    model.compile(keras.optimizers.SGD(learning_rate), estimator=estimator, **options)
    return model


def fixed(layer, logits, loss="mse", estimator="disarm"):
    """A model whose logits are given, one row per example; it does not train."""
    inputs = keras.Input(logits.shape[1:])
    outputs = keras.layers.Flatten()(layer(inputs))
    model = tf_relax.RelaxModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), loss, estimator=estimator, run_eagerly=True)
    return model


def watched(model, x, y, **options):
    """The history of one epoch, and the callback."""
    watch = Watch(x, y, **options)
    with pytest.warns(UserWarning, match="no trainable weights"):
        history = model.fit(x, y, callbacks=[watch], verbose=0, batch_size=len(x)).history
    return {name: values[0] for name, values in history.items()}, watch


def binary_entropy(p):
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def measured(layer, logits, mask=None, dead_below=0.1):
    """A measurement of a layer alone."""
    layer.build((None, *logits.shape[1:]))
    found = {"logits": layer.relaxation.bounded(tf.constant(logits, tf.float32))}
    found |= {"gradient_variance": 1.0, "squared_signal": 0.25}
    if mask is not None:
        found["mask"] = tf.constant(mask)
    return watch_measure.site_measurement(layer, None, found, dead_below)
