"""A line per episode, in the form that Stable-Baselines3's `Monitor` writes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import keras


class EpisodeLog(keras.callbacks.Callback):
    """Writes return, length and time of every episode to a CSV file, as episodes end.

    The columns `r`, `l`, `t` and the line before them are those of Stable-Baselines3's `Monitor`:
    what reads its files reads these, where their names end in `monitor.csv`. `t` are seconds since
    the file was begun, of the update in which the episode ended. An existing file is gone on with.

    Args:
        path: of the file.

    Example:

    >>> import pathlib, tempfile
    >>> import tf_relax
    >>> trainer = tf_relax.rl.PolicyGradient(
    ...     tf_relax.rl.dense_policy("CartPole-v1"), "CartPole-v1", estimator="reinforce"
    ... )
    >>> trainer.compile(jit_compile=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "monitor.csv")
    ...     history = trainer.fit(60, callbacks=[EpisodeLog(path)], seed=0, verbose=0)
    ...     lines = path.read_text().splitlines()
    >>> lines[1], len(lines) - 2 == len(trainer.episode_returns)
    ('r,l,t', True)
    """

    def __init__(self, path: str | Path):
        super().__init__()
        self.path = Path(path)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not hasattr(self.model, "episode_returns"):
            raise TypeError(
                "EpisodeLog writes down the episodes of a tf_relax.rl.PolicyGradient. "
                f"'{self.model.name}' is a {type(self.model).__name__}."
            )
        self._seen = len(self.model.episode_returns)
        self._start = time.time()
        if self.path.exists() and (text := self.path.read_text()).startswith("#"):
            self._start = float(json.loads(text.splitlines()[0][1:])["t_start"])
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        environment = self.model.environments.name.strip("'")
        begins = {"t_start": self._start, "env_id": environment}
        self.path.write_text(f"#{json.dumps(begins)}\nr,l,t\n")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        returns, lengths = self.model.episode_returns, self.model.episode_lengths
        if self._seen == len(returns):
            return
        seconds = time.time() - self._start
        with self.path.open("a") as file:  # whoever watches sees it, and a crash loses nothing
            for k in range(self._seen, len(returns)):
                file.write(f"{returns[k]:.6f},{lengths[k]},{seconds:.6f}\n")
        self._seen = len(returns)
