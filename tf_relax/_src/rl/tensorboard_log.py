"""Curves under the names that Stable-Baselines3 gives them."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

# What `fit` logs, and what it is called there.
_NAMES = {
    "return": "rollout/ep_rew_mean",
    "length": "rollout/ep_len_mean",
    "kl": "train/approx_kl",
    "explained_variance": "train/explained_variance",
    "value_loss": "train/value_loss",
    "gradient_log_variance": "train/gradient_log_variance",
    "evaluation_return": "eval/mean_reward",
    "evaluation_deviation": "eval/std_reward",
}


class TensorBoardLog(keras.callbacks.Callback):
    """Writes for TensorBoard, against frames, what Stable-Baselines3 writes, as it calls it.

    `rollout/ep_rew_mean`, `rollout/ep_len_mean`, `time/fps`, `train/approx_kl` (here the exact
    divergence), `train/entropy_loss` (minus the entropy), `train/explained_variance`,
    `train/value_loss`, `train/learning_rate`, and after an `Evaluate` in the list of callbacks
    `eval/mean_reward`. Of its own, `train/gradient_log_variance`. Runs of either library lie in one
    picture. `keras.callbacks.TensorBoard` writes the names of the history instead, by updates.

    Args:
        log_dir: folder that TensorBoard is shown.
        frequency: updates from one entry to the next.

    Raises:
        ValueError: for less than one update.

    Example:

    >>> import tempfile
    >>> import tf_relax
    >>> trainer = tf_relax.rl.PolicyGradient(
    ...     tf_relax.rl.dense_policy("CartPole-v1"), "CartPole-v1", estimator="reinforce"
    ... )
    >>> trainer.compile(jit_compile=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = trainer.fit(60, callbacks=[TensorBoardLog(folder)], seed=0, verbose=0)
    """

    def __init__(self, log_dir: str | Path, frequency: int = 1):
        super().__init__()
        if not isinstance(frequency, int) or frequency < 1:
            raise ValueError(
                "TensorBoardLog: `frequency` must be at least 1 (a whole number). Received: "
                f"{frequency!r}"
            )
        self.log_dir, self.frequency = Path(log_dir), frequency

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not hasattr(self.model, "episode_returns"):
            raise TypeError(
                "TensorBoardLog is for a tf_relax.rl.PolicyGradient. "
                f"'{self.model.name}' is a {type(self.model).__name__}."
            )
        self._writer = tf.summary.create_file_writer(str(self.log_dir))
        self._start, self._frames = time.perf_counter(), self.model.frames

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self.frequency:
            return
        logs = logs or {}
        frames, seconds = self.model.frames, time.perf_counter() - self._start
        found = {name: logs[key] for key, name in _NAMES.items() if key in logs}
        found["train/entropy_loss"] = -logs["entropy"]
        found["train/learning_rate"] = float(self.model.optimizer.learning_rate)
        found["time/fps"] = (frames - self._frames) / seconds
        with self._writer.as_default(step=frames):
            for name, value in found.items():
                if math.isfinite(value):  # before the first episode has ended there is none
                    tf.summary.scalar(name, value)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._writer.close()
