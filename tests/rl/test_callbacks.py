"""Callbacks of Keras and of tf_relax.rl in `fit`, where an update is an epoch."""

import csv
import re

import keras
import numpy as np
import pytest

from tests.rl.envs import Counter, trainer
from tf_relax import rl


def test_callbacks_of_keras(tmp_path):
    made = trainer("CartPole-v1", n_steps=8)
    watched = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epochs.append(epoch),
    )
    epochs = []
    callbacks = [
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TensorBoard(tmp_path / "board"),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.weights.h5", save_weights_only=True),
        watched,
    ]
    history = made.fit(24, callbacks=callbacks, seed=0, verbose=0)
    assert epochs == [0, 1, 2]
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(float(row["frames"])) for row in rows] == [8, 16, 24]
    assert [float(row["entropy"]) for row in rows] == history.history["entropy"]
    assert list((tmp_path / "board").rglob("events*"))
    loaded = keras.models.load_model(tmp_path / "2.keras")
    assert (loaded.frames, loaded.updates) == (16, 2)
    loaded.load_weights(tmp_path / "best.weights.h5")
    assert (loaded.frames, loaded.updates) == (24, 3)
    for x, y in zip(made.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_early_stopping_restores_the_best_weights():
    made = trainer(Counter((4, 4, 4, 2, 2, 2, 2)), n_episodes=1)
    kept = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.append(made.policy.get_weights())
    )
    stop = keras.callbacks.EarlyStopping(
        "return", mode="max", patience=2, restore_best_weights=True
    )
    made.fit(1000, callbacks=[keep, stop], seed=0, verbose=0)
    # The mean return is highest in the first updates, and the first of them counts.
    assert made.updates == 3
    for x, y in zip(kept[0], made.policy.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_backup_and_restore_goes_on_after_an_interruption(tmp_path):
    env = Counter(faults={(4, 2): KeyboardInterrupt()})
    made = trainer(env)
    with pytest.raises(KeyboardInterrupt):
        made.fit(24, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup")], verbose=0)
    assert made.frames == 12
    again = trainer(Counter())
    again.fit(24, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup")], verbose=0)
    # The same call goes on to the same end, instead of 24 frames further.
    assert (again.frames, again.updates, len(again.episode_returns)) == (24, 6, 6)
    assert again.history.history["frames"] == [16.0, 20.0, 24.0]
    assert not (tmp_path / "backup").exists()


def test_episodes_to_solve():
    solve = rl.episodes_to_solve
    assert solve([5, 5], 5, window=2) == 2
    assert solve([5], 1, window=2) is None
    assert solve([0, 0, 0], 1, window=2) is None
    assert solve([9, 0, 5, 5, 0], 5, window=2) == 4
    assert solve([0] * 100 + [195] * 100, 195) == 200
    assert solve([0] * 100 + [195] * 99, 195) is None


# Returns of `Counter` with episodes of these lengths: 3, 3, 10, 10, 10, 3, ...
LENGTHS = (2, 2, 4, 4, 4)


def stopped(lengths=LENGTHS, threshold=10.0, window=3, **arguments):
    stop = rl.StopOnReward(threshold, window)
    made = trainer(Counter(lengths), **arguments)
    made.fit(1000, callbacks=[stop], seed=0, verbose=0)
    return made, stop


def test_stop_on_reward():
    made, stop = stopped()
    assert stop.solved_after == 5
    assert list(made.episode_returns) == [3.0, 3.0, 10.0, 10.0, 10.0]


def test_stop_on_reward_counts_within_an_update():
    made, stop = stopped(n_episodes=4)
    assert len(made.episode_returns) == 8
    assert stop.solved_after == 5


def test_stop_on_reward_when_training_goes_on():
    made = trainer(Counter(LENGTHS))
    made.fit(12, seed=0, verbose=0)
    assert len(made.episode_returns) == 4
    stop = rl.StopOnReward(10.0, 3)
    made.fit(1000, callbacks=[stop], verbose=0)
    assert stop.solved_after == len(made.episode_returns) == 5  # the window began before
    made.fit(1000, callbacks=[stop], verbose=0)
    # Solved before, but no longer: the next window that qualifies is looked for.
    assert stop.solved_after == len(made.episode_returns) == 10


def test_stop_on_reward_needs_a_trainer():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    with pytest.raises(TypeError, match=r"of a tf_relax.rl.PolicyGradient.*is a Sequential"):
        model.fit(
            np.ones((2, 1)), np.ones((2, 1)), callbacks=[rl.StopOnReward(1.0, window=1)], verbose=0
        )
    with pytest.raises(ValueError, match="`window` must be at least 1"):
        rl.StopOnReward(1.0, window=0)


def test_curves_are_drawn(tmp_path):
    path = tmp_path / "curves.png"
    sizes = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: sizes.append(path.exists())
    )
    curves = rl.PlotCurves(path, frequency=2)
    made = trainer(Counter(), n_episodes=1)
    made.fit(12, callbacks=[curves, look], seed=0, verbose=0)
    assert sizes == [False, True, True]
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [point["frames"] for point in curves.curves] == [4, 8, 12]
    assert set(rl.PlotCurves.SHOWN) <= set(curves.curves[0])
    made.fit(4, callbacks=[curves], verbose=0)
    assert [point["frames"] for point in curves.curves] == [4, 8, 12, 16]
    another = trainer(Counter(), "reinforce")
    another.fit(4, callbacks=[curves], seed=0, verbose=0)
    assert [point["frames"] for point in curves.curves] == [4]


def test_curves_in_another_format(tmp_path):
    made = trainer(Counter(), "reinforce")
    made.fit(8, callbacks=[rl.PlotCurves(str(tmp_path / "curves.svg"))], seed=0, verbose=0)
    picture = (tmp_path / "curves.svg").read_text()
    assert "log-variance" in picture
    assert "explained variance" not in picture  # there is no value


def test_curves_say_what_they_need(monkeypatch):
    with pytest.raises(ValueError, match="`frequency` must be at least 1"):
        rl.PlotCurves("curves.png", frequency=0)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="PlotCurves needs matplotlib: pip install matplotlib"):
        rl.PlotCurves("curves.png")


def printed(capsys, *lengths, **arguments):
    made = trainer(Counter(lengths), n_steps=4)
    made.fit(12, seed=0, **arguments)
    captured = capsys.readouterr()
    return made, re.sub(r"\x1b\[[0-9;]*m|\x08", "", captured.out)


def test_the_progress_bar_counts_frames(capsys):
    made, text = printed(capsys, 4, verbose=1)
    assert "12/12" in text
    assert "4/12" in text
    assert "/frame" in text
    assert f"episodes: {len(made.episode_returns)}" in text
    assert "return: 10.0" in text
    assert text.endswith("\n")
    made.fit(12, verbose=1)
    text = re.sub(r"\x1b\[[0-9;]*m|\x08", "", capsys.readouterr().out)
    assert "12/12" in text  # counts from where it began
    assert "24" not in text.split("frame")[0]


def test_the_progress_bar_before_an_episode_has_ended(capsys):
    _, text = printed(capsys, 100, verbose="auto")
    assert "episodes: 0" in text
    assert "nan" not in text
    assert "return" not in text


def test_silence(capsys):
    _, text = printed(capsys, 4, verbose=0)
    assert text == ""


def late_trainer():
    """The first three updates end no episode: `return` is not a number until then."""
    return trainer(Counter((13, 9, 20)), n_steps=4)


def test_the_best_is_looked_for_once_there_is_a_return(tmp_path):
    made = late_trainer()
    path = tmp_path / "{epoch}.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(path, monitor="return", save_best_only=True)
    history = made.fit(60, callbacks=[checkpoint], seed=0, verbose=0).history["return"]
    assert np.isnan(history[:3]).all()
    best, improved = -np.inf, []
    for update, value in enumerate(history, start=1):
        if value > best:
            best, _ = value, improved.append(update)
    assert len(improved) > 1
    assert sorted(int(x.stem) for x in tmp_path.iterdir()) == improved
    assert checkpoint.best == best


def test_early_stopping_waits_for_the_first_return():
    made = late_trainer()
    stop = keras.callbacks.EarlyStopping(monitor="return", patience=2)
    history = made.fit(400, callbacks=[stop], seed=0, verbose=0).history["return"]
    peak = int(np.nanargmax(history))
    assert peak >= 3
    assert made.updates == len(history) == peak + 1 + 2
    assert stop.best == history[peak]


def test_the_learning_rate_is_not_reduced_before_the_first_return():
    made = trainer(Counter((13, 2, 2, 2, 2)), n_steps=4)
    made.compile(keras.optimizers.SGD(1e-3), jit_compile=False)
    reduce = keras.callbacks.ReduceLROnPlateau(
        monitor="return", patience=1, factor=0.5, min_delta=0.0
    )
    made.fit(12, callbacks=[reduce], seed=0, verbose=0)
    assert float(made.optimizer.learning_rate) == pytest.approx(1e-3)
    made.fit(60, callbacks=[reduce], verbose=0)
    assert float(made.optimizer.learning_rate) < 0.9e-3


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("return", "max"), ("explained_variance", "max"), ("value_loss", "min")],
)
def test_the_direction_is_known(monitor, mode):
    made = trainer(Counter())
    stop = keras.callbacks.EarlyStopping(monitor=monitor)
    made.fit(8, callbacks=[stop], seed=0, verbose=0)
    assert stop.mode == mode


def test_where_it_is_not_known_keras_asks():
    made = trainer(Counter())
    stop = keras.callbacks.EarlyStopping(monitor="entropy")
    with pytest.raises(ValueError, match="Pass `mode='max'`"):
        made.fit(8, callbacks=[stop], seed=0, verbose=0)


def test_a_frequency_of_saving_counts_updates(tmp_path):
    made = trainer(Counter(), n_steps=4)
    every = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras", save_freq=3)
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="return", save_best_only=True, save_freq=2
    )
    batches = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batches.append((batch, logs["frames"]))
    )
    history = made.fit(26, callbacks=[every, best, watch], seed=0, verbose=0).history
    assert sorted(x.stem for x in tmp_path.glob("[0-9]*")) == ["3", "6"]
    assert rl.load(tmp_path / "6.keras", env=Counter()).updates == 6
    assert (tmp_path / "best.keras").exists()
    assert batches == [(0, frames) for frames in history["frames"]]


def test_backups_every_few_updates(tmp_path):
    env = Counter(faults={(6, 2): KeyboardInterrupt()})
    made = trainer(env)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=2)
    with pytest.raises(KeyboardInterrupt):
        made.fit(32, callbacks=[backup], verbose=0)
    assert made.updates == 5
    again = trainer(Counter())
    again.fit(
        32,
        callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=2)],
        verbose=0,
    )
    assert again.history.history["frames"][0] == 20  # from update 4 on
    assert again.frames == 32


def test_a_single_callback_and_tensorboard_per_batch(tmp_path):
    made = trainer(Counter())
    board = keras.callbacks.TensorBoard(tmp_path, update_freq="batch")
    made.fit(8, callbacks=board, seed=0, verbose=0)
    assert list(tmp_path.rglob("events*"))
