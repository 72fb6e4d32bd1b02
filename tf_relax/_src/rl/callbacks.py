"""Callbacks of policy-gradient training; those of Keras work as well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np


def episodes_to_solve(returns: Sequence[float], threshold: float, window: int = 100) -> int | None:
    """Returns after how many episodes the environment counts as solved, or `None`.

    Solved means that `window` episodes in a row had a mean return of at least `threshold`; the last
    of the first such window is counted.

    Args:
        returns: of all episodes, in the order in which they ended.
        threshold: mean return.
        window: number of episodes.

    Example:

    >>> episodes_to_solve([0.0, 1.0, 1.0, 1.0], threshold=1.0, window=2)
    3
    """
    if len(returns) < window:
        return None
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(returns, float)]))
    means = (sums[window:] - sums[:-window]) / window
    solved = np.flatnonzero(means >= threshold)
    return int(solved[0]) + window if len(solved) else None


class StopOnReward(keras.callbacks.Callback):
    """Stops training once the environment is solved, see `episodes_to_solve`.

    Where training goes on (a second `fit`, a trainer that was loaded), the window reaches back to
    episodes from before and all are counted, but only a new episode can complete it.

    Args:
        threshold: mean return over `window` episodes.
        window: number of episodes.

    Attributes:
        solved_after: number of episodes that it took, or `None`.

    Example:

    >>> import tf_relax
    >>> trainer = tf_relax.rl.PolicyGradient(
    ...     tf_relax.rl.dense_policy("CartPole-v1"), "CartPole-v1", estimator="reinforce"
    ... )
    >>> trainer.compile(jit_compile=False)
    >>> stop = StopOnReward(1.0, window=2)
    >>> history = trainer.fit(10_000, callbacks=[stop], seed=0, verbose=0)
    >>> stop.solved_after
    2
    """

    def __init__(self, threshold: float, window: int = 100):
        super().__init__()
        if window < 1:
            raise ValueError(f"StopOnReward: `window` must be at least 1. Received: {window}")
        self.threshold, self.window = threshold, window
        self.solved_after: int | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not hasattr(self.model, "episode_returns"):
            raise TypeError(
                "StopOnReward watches the episodes of a tf_relax.rl.PolicyGradient. "
                f"'{self.model.name}' is a {type(self.model).__name__}."
            )
        self.solved_after = None
        self._seen = len(self.model.episode_returns)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        returns = self.model.episode_returns
        new = len(returns) - self._seen
        if not new:
            return
        self._seen = len(returns)
        # Only windows that end with a new episode can be the first that is good enough.
        looked_at = min(len(returns), new + self.window - 1)
        latest = [returns[k] for k in range(-looked_at, 0)]
        solved = episodes_to_solve(latest, self.threshold, self.window)
        if solved is not None:
            self.solved_after = len(returns) - looked_at + solved
            self.model.stop_training = True


class PlotCurves(keras.callbacks.Callback):
    """Draws what training logged, over frames, into a picture that grows along.

    Return, length, entropy, KL divergence, log-variance of the gradient and, with a state value,
    its explained variance. Used again, it goes on with the curves that it has.

    Args:
        path: of the picture; its ending tells the format.
        frequency: updates from one picture to the next; the last comes when training ends.

    Raises:
        ValueError: for a frequency below 1.
        ImportError: if matplotlib is not installed.

    Example:

    >>> import os, tempfile
    >>> import tf_relax
    >>> trainer = tf_relax.rl.PolicyGradient(
    ...     tf_relax.rl.dense_policy("CartPole-v1"), "CartPole-v1", estimator="reinforce"
    ... )
    >>> trainer.compile(jit_compile=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     curves = PlotCurves(f"{folder}/curves.png")
    ...     history = trainer.fit(50, callbacks=[curves], seed=0, verbose=0)
    ...     os.listdir(folder)
    ['curves.png']
    """

    SHOWN: ClassVar[dict[str, str]] = {
        "return": "return (mean of 100 episodes)",
        "length": "length (mean of 100 episodes)",
        "entropy": "entropy of the policy [nats]",
        "kl": "KL divergence per update [nats]",
        "gradient_log_variance": "log-variance of the gradient [nats]",
        "explained_variance": "explained variance of the value",
    }

    def __init__(self, path: str | Path, frequency: int = 100):
        super().__init__()
        if frequency < 1:
            raise ValueError(f"PlotCurves: `frequency` must be at least 1. Received: {frequency}")
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("PlotCurves needs matplotlib: pip install matplotlib") from error
        self.path, self.frequency = Path(path), frequency
        self._figure = Figure
        self.curves: list[dict[str, float]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        frames = getattr(self.model, "frames", 0)
        # Another trainer, or an older state of this one: its later points are no longer true.
        self.curves = [point for point in self.curves if point["frames"] <= frames]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.curves.append(dict(logs or {}))
        if len(self.curves) % self.frequency == 0:
            self._draw()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.curves:
            self._draw()

    def _draw(self) -> None:
        shown = [name for name in self.SHOWN if name in self.curves[-1]]
        figure = self._figure(figsize=(11, 6), layout="constrained")
        grid = figure.subplots(2, 3, sharex=True).ravel()
        frames = [point["frames"] for point in self.curves]
        for axes, name in zip(grid, shown, strict=False):
            values = [point.get(name, np.nan) for point in self.curves]
            # A single point makes no line.
            axes.plot(frames, values, marker="." if len(frames) == 1 else None)
            axes.set_title(self.SHOWN[name], fontsize="medium")
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        for axes in grid[3:]:
            axes.set_xlabel("frames")
        figure.savefig(self.path)


class Progress(keras.callbacks.Callback):
    """One progress bar for the whole of `fit`, in frames.

    Args:
        start: frames before.
        total: frames to come.
    """

    SHOWN = ("episodes", "return", "length", "entropy", "gradient_log_variance")

    def __init__(self, start: int, total: int):
        super().__init__()
        self.start, self.total = start, total

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._bar = keras.utils.Progbar(self.total, stateful_metrics=self.SHOWN, unit_name="frame")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        frames = min(int(logs["frames"]) - self.start, self.total)
        values = [(name, logs[name]) for name in self.SHOWN if np.isfinite(logs.get(name, np.nan))]
        self._frames, self._values = frames, values
        if frames < self.total:
            self._bar.update(frames, values, finalize=False)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if hasattr(self, "_frames"):
            self._bar.update(self._frames, self._values, finalize=True)
