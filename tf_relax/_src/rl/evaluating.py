"""Evaluation while a policy trains, and the best trainer so far."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras


class Evaluate(keras.callbacks.Callback):
    """Evaluates the policy every so many updates, on episodes of its own, and keeps the best.

    Logs `evaluation_return` and `evaluation_deviation`, which go on showing the latest until there
    are others: `keras.callbacks.EarlyStopping("evaluation_return", mode="max")` after it in the
    list goes by them. What training logs as `return` are episodes of policies that were changing,
    and that explored.

    Args:
        frequency: updates from one evaluation to the next.
        n_episodes: episodes of each.
        path: where to save the trainer whenever it has been better than ever; `None` saves nothing.
        deterministic: whether the policy takes its most probable actions.
        seed: of the episodes, the same in all evaluations; `None` draws others each time.

    Attributes:
        best: mean return of the best evaluation so far, minus infinity before the first.
        returns: by frames, mean and deviation of every evaluation.

    Raises:
        ValueError: for less than one update or one episode.

    Example:

    >>> import tf_relax
    >>> trainer = tf_relax.rl.PolicyGradient(
    ...     tf_relax.rl.dense_policy("CartPole-v1"), "CartPole-v1", estimator="reinforce"
    ... )
    >>> trainer.compile(jit_compile=False)
    >>> evaluate = Evaluate(frequency=2, n_episodes=1, seed=0)
    >>> history = trainer.fit(100, callbacks=[evaluate], seed=0, verbose=0)
    >>> evaluate.best == max(mean for mean, _ in evaluate.returns.values())
    True
    """

    def __init__(
        self,
        frequency: int = 10,
        n_episodes: int = 5,
        path: str | Path | None = None,
        deterministic: bool = True,
        seed: int | None = None,
    ):
        super().__init__()
        for name, number in (("frequency", frequency), ("n_episodes", n_episodes)):
            if not isinstance(number, int) or number < 1:
                raise ValueError(
                    f"Evaluate: `{name}` must be at least 1 (a whole number). Received: {number!r}"
                )
        self.frequency, self.n_episodes = frequency, n_episodes
        self.path = None if path is None else Path(path)
        self.deterministic, self.seed = deterministic, seed
        self.best = -math.inf
        self.returns: dict[int, tuple[float, float]] = {}
        self._latest = (math.nan, math.nan)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not hasattr(self.model, "episode_returns"):
            raise TypeError(
                "Evaluate is for a tf_relax.rl.PolicyGradient. "
                f"'{self.model.name}' is a {type(self.model).__name__}."
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self.frequency == 0:
            self._latest = self.model.evaluate(self.n_episodes, self.deterministic, self.seed)
            self.returns[self.model.frames] = self._latest
            if self._latest[0] > self.best:
                self.best = self._latest[0]
                if self.path is not None:
                    self.model.save(self.path)
        if logs is not None:
            logs["evaluation_return"], logs["evaluation_deviation"] = self._latest
