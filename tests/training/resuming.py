"""A training run that can be killed at any moment: `python -m tests.training.resuming`."""

import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from tf_relax import RelaxModel, RelaxOptimizer
from tf_relax.callbacks import BackupAndRestore
from tf_relax.layers import RelaxBernoulli, RelaxCategorical

X = np.random.default_rng(0).normal(size=(44, 6)).astype("float32")
BATCH = 8


@keras.saving.register_keras_serializable("tests")
class Jitter(keras.layers.Layer):
    """Draws from the global generator of Keras."""

    def call(self, x, training=False):
        return x + 0.1 * keras.random.normal(keras.ops.shape(x)) if training else x


def made(estimator="relax", **kwargs):
    """A model with all that training changes: seeds of every kind, batch statistics, schedules."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6,))
    # On several devices Keras lets no layer draw from the global generator.
    alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
    x = keras.layers.Dropout(0.2)(Jitter()(inputs) if alone else inputs)
    x = keras.layers.BatchNormalization()(keras.layers.Dense(8, "relu")(x))
    code = RelaxBernoulli(prior="learned")(keras.layers.Dense(4)(x))
    choice = RelaxCategorical()(keras.layers.Dense(3)(x))
    x = keras.layers.Concatenate()([code, choice])
    model = RelaxModel(inputs, keras.layers.Dense(6)(keras.layers.Dropout(0.1)(x)))
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 20, 0.9)
    model.compile(
        RelaxOptimizer(keras.optimizers.Adam(rate), keras.optimizers.RMSprop(0.01)),
        "mse",
        metrics=["mae"],
        estimator=estimator,
        **kwargs,
    )
    return model


def everything(model):
    """All that a step changes."""
    held = [*model.variables, *model.estimator_state.variables, *model.optimizer.variables]
    return [np.asarray(variable) for variable in held]


def main(folder, devices, epochs):
    """Trains, says when it does so, and writes down what came out."""
    strategy = tf.distribute.get_strategy()
    if devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
        tf.config.set_logical_device_configuration(cpu, logical)
        strategy = tf.distribute.MirroredStrategy([f"CPU:{k}" for k in range(devices)])
    with strategy.scope():
        model = made()
    callbacks = [
        BackupAndRestore(folder / "backup", save_freq=1),
        keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: (folder / "training").touch()
        ),
    ]
    history = model.fit(X, X, BATCH, epochs, verbose=0, validation_data=(X, X), callbacks=callbacks)
    np.savez(folder / "part.npz", *everything(model), loss=history.history["loss"][-1:])
    (folder / "part.npz").rename(folder / "final.npz")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
