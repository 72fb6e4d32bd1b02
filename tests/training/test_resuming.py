"""Training goes on where it stopped, bit by bit: from files, checkpoints and after kills."""

import random
import signal
import subprocess
import sys
import time
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.resuming import BATCH, X, everything, made
from tf_relax import RelaxModel
from tf_relax._src import compat, whole_files
from tf_relax.callbacks import BackupAndRestore
from tf_relax.layers import RelaxBernoulli


class Killed(BaseException):
    """What ends a process here, without anything being tidied up."""


def small(**kwargs):
    """What is traced in a second, and learns a moving baseline."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dropout(0.2), keras.layers.Dense(4), RelaxBernoulli()]
    model = RelaxModel([keras.Input((6,)), *layers, keras.layers.Dense(6)])
    model.compile("adam", "mse", metrics=["mae"], estimator="nvil", **kwargs)
    return model


def fit(model, *callbacks, epochs=4, **kwargs):
    return model.fit(X, X, BATCH, epochs, verbose=0, callbacks=callbacks, **kwargs).history


def same(model, expected):
    return all(np.array_equal(a, b) for a, b in zip(everything(model), expected, strict=True))


@pytest.fixture(scope="module")
def whole():
    """What a run comes to that was never stopped."""
    model = small()
    fit(model, epochs=2)
    history = fit(model, epochs=4, initial_epoch=2)
    return everything(model), history


def test_a_run_in_two_parts_is_the_run(whole):
    model = small()
    history = fit(model)
    assert same(model, whole[0])
    np.testing.assert_array_equal(history["loss"][2:], whole[1]["loss"])


def test_files_bring_all_that_training_goes_on_from(tmp_path):
    stopped = made("relax")
    fit(stopped, epochs=2)
    half = everything(stopped)
    stopped.save(tmp_path / "model.keras")
    stopped.save_weights(tmp_path / "model.weights.h5")
    checkpoint = tf.train.Checkpoint(model=stopped).save(tmp_path / "model")
    history = fit(stopped, epochs=4, initial_epoch=2)
    end = everything(stopped)

    def goes_on(model):
        assert same(model, half)
        went_on = fit(model, epochs=4, initial_epoch=2)
        assert same(model, end)
        np.testing.assert_array_equal(went_on["loss"], history["loss"])

    keras.random.normal((1,))  # moves the global generator
    goes_on(keras.saving.load_model(tmp_path / "model.keras"))
    model = made("relax")
    keras.random.normal((1,))
    model.optimizer.build(model.trained_variables)
    model.load_weights(tmp_path / "model.weights.h5")
    goes_on(model)
    keras.random.normal((1,))  # from where it trained on to, back to the checkpoint
    tf.train.Checkpoint(model=model).restore(checkpoint).assert_consumed()
    goes_on(model)
    model = made("relax")
    restored = tf.train.Checkpoint(model=model).restore(checkpoint)
    restored.assert_existing_objects_matched().expect_partial()  # metrics have not begun
    assert same(model, half)


class Kill(keras.callbacks.Callback):
    """Ends a run after a number of its batches."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise Killed


@pytest.mark.parametrize(("save_freq", "after"), [("epoch", 8), (4, 11), (3, 18)])
def test_a_backup_goes_on_where_it_was_written(save_freq, after, whole, tmp_path):
    with pytest.raises(Killed):
        fit(small(), BackupAndRestore(tmp_path / "backup", save_freq), Kill(after))
    model = small()
    keras.random.normal((1,))
    history = fit(model, BackupAndRestore(tmp_path / "backup", save_freq))
    assert same(model, whole[0])
    assert history["loss"][-1] == whole[1]["loss"][-1]
    assert not list((tmp_path / "backup").iterdir())


@pytest.mark.parametrize("stage", ["begun", "written", "moved"])
def test_a_kill_while_a_backup_is_written(stage, whole, tmp_path, monkeypatch):
    saves = 0

    def dying(function, moment):
        def called(*args, **kwargs):
            nonlocal saves
            saves += moment == "begun"
            if moment == stage == "begun" and saves == 9:
                path = args[1]
                path.write_bytes(b"half a file")
                raise Killed
            if stage == "moved" == moment and saves == 9:
                function(*args, **kwargs)
                raise Killed
            if stage == "written" == moment and saves == 9:
                raise Killed
            return function(*args, **kwargs)

        return called

    with monkeypatch.context() as patch:
        # A killed process tidies nothing up.
        patch.setattr(whole_files.Path, "unlink", lambda path, missing_ok=False: None)
        patch.setattr(keras.Model, "save_weights", dying(keras.Model.save_weights, "begun"))
        replaced = "written" if stage == "written" else "moved"
        patch.setattr(whole_files.os, "replace", dying(whole_files.os.replace, replaced))
        with pytest.raises(Killed):
            fit(small(), BackupAndRestore(tmp_path, save_freq=1))
    assert len(whole_files.leftovers(tmp_path)) == (stage != "moved")
    model = small()
    fit(model, BackupAndRestore(tmp_path, save_freq=1))
    assert same(model, whole[0])
    assert not list(tmp_path.iterdir())


def test_a_damaged_backup_is_passed_over(whole, tmp_path):
    with pytest.raises(Killed):
        fit(small(), BackupAndRestore(tmp_path, save_freq=2), Kill(10))
    first, last = sorted(tmp_path.iterdir())
    last.write_bytes(last.read_bytes()[:-1000])
    last.rename(tmp_path / "epoch-000009-batch-000000000.weights.h5")  # whatever its name
    model = small()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, BackupAndRestore(tmp_path, save_freq=2))
    ours = [w for w in caught if "older backup" in str(w.message)]
    assert len(ours) == 1
    assert "is damaged" in str(ours[0].message)
    assert same(model, whole[0])
    first.write_bytes(b"not HDF5")
    with pytest.raises(OSError, match="is damaged"):
        fit(model, BackupAndRestore(tmp_path, save_freq=2))


def test_data_that_go_on_from_epoch_to_epoch(tmp_path):
    def run(model, *callbacks):
        data = tf.data.Dataset.from_tensor_slices((X, X)).batch(BATCH).repeat()
        model.fit(data, epochs=3, steps_per_epoch=4, verbose=0, shuffle=False, callbacks=callbacks)
        return everything(model)

    expected = run(small())
    for after, save_freq in ((7, 3), (9, "epoch")):
        backup = BackupAndRestore(tmp_path, save_freq, continuous=True)
        with pytest.raises(Killed):
            run(small(), backup, Kill(after))
        model = small()
        run(model, backup)
        assert same(model, expected)


def test_steps_per_execution(tmp_path):
    model = small(steps_per_execution=4)
    fit(model)
    expected = everything(model)
    with pytest.raises(Killed):
        fit(small(steps_per_execution=4), BackupAndRestore(tmp_path, 4), Kill(5))
    model = small(steps_per_execution=4)
    fit(model, BackupAndRestore(tmp_path, 4))
    assert same(model, expected)


def test_arguments(tmp_path):
    for save_freq in ("batch", 0, True, 1.5):
        with pytest.raises(ValueError, match="save_freq"):
            BackupAndRestore(tmp_path, save_freq)
    kept = BackupAndRestore(tmp_path, delete_checkpoint=False)
    fit(small(), kept, epochs=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "epoch-000001-batch-000000000.weights.h5",
        "epoch-000002-batch-000000000.weights.h5",
    ]


def test_hooks_of_keras(tmp_path):
    """What `build_metrics`, `start_at_epoch`, `Checkpointed`, `input_signature` rely on."""
    model = small()
    assert not any("absolute" in variable.path for variable in model.metrics_variables)
    compat.build_metrics(model, (X[:2], X[:2]))
    assert any("absolute" in variable.path for variable in model.metrics_variables)
    compat.start_at_epoch(model, 3)
    assert model.fit(X, X, BATCH, epochs=4, verbose=0).epoch == [3]
    names = [name for name, _ in tf.train.list_variables(tf.train.Checkpoint(model=model).save(
        tmp_path / "model"))]  # fmt: skip
    assert any(name.startswith("model/tf_relax/progress/") for name in names)
    (signature,) = compat.input_signature(model)
    assert tuple(signature.shape) == (None, 6)
    assert isinstance(model, compat.Checkpointed)


def final(folder, devices, epochs, kills, seed=0):
    """Runs a process until it ends, killing it at random moments; returns what came out of it.

    And how often it was killed while a backup was being written.
    """
    folder.mkdir()
    rng = random.Random(seed)
    command = [sys.executable, "-m", "tests.training.resuming", folder, str(devices), str(epochs)]
    while_writing = 0
    for _ in range(kills):
        before = set((folder / "backup").glob("epoch*"))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while set((folder / "backup").glob("epoch*")) == before:  # until it trains
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
        while_writing += bool(whole_files.leftovers(folder / "backup"))
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with np.load(folder / "final.npz") as arrays:
        return dict(arrays), while_writing


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_killed_at_twenty_random_moments(devices, tmp_path):
    expected, _ = final(tmp_path / "whole", devices, epochs=120, kills=0)
    arrays, while_writing = final(tmp_path / "killed", devices, epochs=120, kills=20)
    print(f"{devices} devices: killed 20 times, {while_writing} times while a backup was written")
    assert while_writing > 0
    assert all(np.array_equal(arrays[name], expected[name]) for name in expected)
