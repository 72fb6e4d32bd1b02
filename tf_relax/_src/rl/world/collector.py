"""Runs a policy in its environments and records what happened."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tf_relax._src.rl.world.environments import Environments, ProcessEnded
from tf_relax._src.rl.world.rollout import Rollout, from_episodes

# Of processes in one rollout: where they end again and again, something else is wrong.
_RESTARTS = 3
# Noise is drawn for so many steps at once: a draw takes as long as several actions.
_BLOCK = 256


class Collector:
    """Records rollouts: whole episodes, or a fixed number of steps.

    Whole episodes are allotted to the environments beforehand, the same number to each. Taking
    whichever end first would favour short ones, and a policy's gradient with them. An environment
    that has played its share is left alone until all have: no frame is spent on it, and what it
    would play under this policy is never joined to what follows under the next. Ready-made vector
    environments step all of theirs; what comes on top there is thrown away.

    Args:
        environments: where to act.
        act: returns ``b`` for observations and noise, `[n_envs, ...]` each.
        draw_noise: returns noise for a number of steps, `[steps, n_envs, ...]`.
        n_episodes: episodes per rollout, or `None`.
        n_steps: steps per environment and rollout, or `None`.

    Attributes:
        unused: frames of the latest rollout that are part of no episode in it.
    """

    def __init__(
        self,
        environments: Environments,
        act: Callable[[np.ndarray, np.ndarray], np.ndarray],
        draw_noise: Callable[[int], np.ndarray],
        n_episodes: int | None,
        n_steps: int | None,
    ):
        self.environments = environments
        self.act = act
        self.draw_noise = draw_noise
        self.n_episodes = n_episodes
        self.n_steps = n_steps
        self._noise: Iterator[np.ndarray] = iter(())
        self.unused = 0

    def collect(self, seed: int | None = None) -> tuple[Rollout, int]:
        """Returns a rollout and the number of frames that it took.

        Where a process of the environments ends, they are made anew, with a warning.

        Args:
            seed: of the environments, for the first rollout of a training run.
        """
        for _ in range(_RESTARTS):
            try:
                return self._collected(seed)
            except ProcessEnded as ended:
                warnings.warn(
                    f"{ended}\nIts processes are started anew, and so is the rollout under way.",
                    stacklevel=4,
                )
        return self._collected(seed)

    def _collected(self, seed: int | None) -> tuple[Rollout, int]:
        self.environments.finished.clear()  # left by what failed, or by an evaluation
        try:
            if self.n_steps is not None:
                return self._steps(self.n_steps, seed)
            return self._episodes(seed)
        except BaseException:
            self.environments.forget()  # interrupted: what was begun belongs to no rollout
            raise

    def _steps(self, n_steps: int, seed: int | None) -> tuple[Rollout, int]:
        if self.environments.observations is None or seed is not None:
            self.environments.reset(seed)
        while True:
            memory = self.environments.memory
            rollout = _stacked([self._step() for _ in range(n_steps)])._replace(memory=memory)
            frames = int(rollout.mask.sum())
            if frames:  # else all did nothing but reset themselves
                return rollout, frames

    def _episodes(self, seed: int | None) -> tuple[Rollout, int]:
        count = self.environments.n_envs
        assert self.n_episodes is not None
        left = np.full(count, self.n_episodes // count)
        self.environments.reset(seed)
        memory = self.environments.memory
        rows: list[Rollout] = []
        ends: list[list[int]] = [[] for _ in range(count)]
        kept: list[tuple[float, int]] = []
        frames = 0
        while left.any():
            rows.append(self._step())
            frames += int(rows[-1].mask.sum())
            if rows[-1].done.any():
                for i in np.flatnonzero(rows[-1].done).tolist():
                    # Those that come on top, while others still play, are mostly short.
                    finished = self.environments.finished.pop(0)
                    if left[i] > 0:
                        kept.append(finished)
                        ends[i].append(len(rows))
                        left[i] -= 1
                    if not left[i]:
                        self.environments.pause(i)
        self.environments.finished = kept
        columns = _stacked(rows)
        episodes = []
        for i, last_rows in enumerate(ends):
            start = 0
            for end in last_rows:
                # Skips the row in which the environment reset itself.
                start += int(columns.mask[start, i] == 0)
                episodes.append(Rollout(*[field[start:end, i] for field in columns.rows]))
                start = end
        self.unused = frames - sum(len(episode.rewards) for episode in episodes)
        nothing = tuple(np.zeros((len(episodes), *x.shape[1:]), x.dtype) for x in memory)
        return from_episodes(episodes)._replace(memory=nothing), frames

    def _step(self) -> Rollout:
        observations: Any = self.environments.observations
        noise = self._next_noise()
        b = self.act(observations, noise)
        step = self.environments.step(b)
        return Rollout(
            observations=observations,
            noise=noise,
            actions=b,
            rewards=step.rewards,
            successors=step.successors,
            terminated=step.terminated,
            done=step.done,
            mask=step.counts,
        )

    def _next_noise(self) -> np.ndarray:
        noise = next(self._noise, None)
        if noise is None:
            self._noise = iter(self.draw_noise(_BLOCK))
            noise = next(self._noise)
        return noise


def _stacked(rows: list[Rollout]) -> Rollout:
    fields = [np.stack(field) for field in zip(*(row.rows for row in rows), strict=True)]
    return Rollout(*[field.astype(np.float32, copy=False) for field in fields])
