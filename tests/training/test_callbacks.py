"""RelaxModel with the callbacks of Keras."""

import csv

import keras
import numpy as np
import pytest

from tests.training.models import (
    X,
    Y,
    assert_same,
    assign,
    compile_model,
    fit,
    functional,
    held,
    numpy,
)


def test_model_checkpoint(tmp_path):
    model = compile_model(functional())
    callback = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    weights_only = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "best.weights.h5"),
        save_weights_only=True,
        save_best_only=True,
        monitor="val_loss",
    )
    fit(model, epochs=2, validation_data=(X, Y), callbacks=[callback, weights_only])
    resumed = keras.saving.load_model(tmp_path / "1.keras")
    fit(resumed, validation_data=(X, Y))  # validation draws samples as well
    assert_same(numpy(held(resumed)), numpy(held(model)))
    other = compile_model(functional())
    other.optimizer.build(other.trained_variables)  # as in Keras: an unbuilt one is skipped
    other.load_weights(tmp_path / "best.weights.h5")


def test_early_stopping():
    model = compile_model(functional(), keras.optimizers.SGD(0.0))
    callback = keras.callbacks.EarlyStopping(
        monitor="loss", patience=0, min_delta=1e6, restore_best_weights=True
    )
    history = fit(model, epochs=5, callbacks=[callback])
    assert len(history["loss"]) == 2


def test_learning_rate_callbacks():
    model = compile_model(functional(), keras.optimizers.SGD(1.0))
    rates = []
    history = fit(
        model,
        epochs=3,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / 2**epoch),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: rates.append(
                    float(model.optimizer.optimizer.learning_rate.numpy())
                )
            ),
        ],
    )
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.025], rtol=1e-6)
    np.testing.assert_allclose(history["learning_rate"], rates, rtol=1e-6)
    assert float(model.optimizer.surrogate_optimizer.learning_rate.numpy()) == 1.0


def test_csv_logger(tmp_path):
    model = compile_model(functional(), metrics=["mae"], run_eagerly=True)
    history = fit(
        model,
        epochs=2,
        validation_data=(X, Y),
        callbacks=[keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))],
    )
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"epoch", "loss", "mae", "val_loss", "val_mae"}
    np.testing.assert_allclose([float(row["loss"]) for row in rows], history["loss"])


def test_backup_and_restore(tmp_path):
    """The run that was interrupted ends exactly as the one that was not."""

    def make():
        return compile_model(functional(seed=0))

    initial = numpy(held(make()))

    def run(*callbacks, epochs=3):
        model = make()
        assign(held(model), initial)
        fit(model, epochs=epochs, callbacks=list(callbacks))
        return model

    def stop(epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt

    expected = run()
    backup = str(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        run(
            keras.callbacks.BackupAndRestore(backup),
            keras.callbacks.LambdaCallback(on_epoch_begin=stop),
        )
    resumed = run(keras.callbacks.BackupAndRestore(backup))
    assert_same(numpy(held(resumed)), numpy(held(expected)))
    assert_same(numpy(resumed.optimizer.variables), numpy(expected.optimizer.variables))


def test_callback_sees_the_state_of_each_batch():
    losses = []
    model = compile_model(functional(), keras.optimizers.SGD(0.0))
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: losses.append(logs["loss"])
    )
    history = fit(model, callbacks=[callback])
    assert len(losses) == 3
    assert losses[-1] == pytest.approx(history["loss"][0])
