"""What was recorded of the environments under one policy, and by what noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Rollout(NamedTuple):
    """Trajectories side by side: arrays `[steps, trajectories, ...]`, in float32.

    A trajectory is an episode, or the stretch of `n_steps` that one environment was recorded for.

    Attributes:
        observations: what the policy saw.
        noise: what made its choice, see `relaxations.Relaxation.noise`. Only with it do ``z``, the
            action and ``z~`` of the update belong together.
        actions: the samples ``b`` (one-hot, binary, or real before any clipping).
        rewards: received after the action.
        successors: the observation after the action; at the end of an episode its true last one,
            not the first of the next.
        terminated: 1.0 where the environment ended the episode: nothing follows.
        done: 1.0 where it ended for any reason, a time limit included.
        mask: 0.0 where the row is padding, or a step in which the environment only reset itself.
        memory: what policy and value remember before the first row, `[trajectories, ...]` each;
            empty where they remember nothing.
    """

    observations: Any
    noise: Any
    actions: Any
    rewards: Any
    successors: Any
    terminated: Any
    done: Any
    mask: Any
    memory: Any = ()

    @property
    def rows(self) -> tuple[Any, ...]:
        """All fields but the memory."""
        return tuple(self)[:-1]


def padded_length(steps: int) -> int:
    """Returns the next power of four, at least 64: each length is compiled once, in seconds."""
    length = 64
    while length < steps:
        length *= 4
    return length


def from_episodes(episodes: list[Rollout]) -> Rollout:
    """Lays episodes, `[steps, ...]` each, side by side and fills the shorter with zeros."""
    length = padded_length(max(len(episode.rewards) for episode in episodes))

    def pad(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)])

    columns = [[pad(field) for field in episode.rows] for episode in episodes]
    return Rollout(*[np.stack(field, axis=1) for field in zip(*columns, strict=True)])


def filled(rollout: Rollout) -> Rollout:
    """Puts real steps where nothing may be seen of a row, all of them in turn.

    Policy and value are evaluated at every row, and what comes out is multiplied by 0 where it is
    no step. Where they are not finite (a logarithm at the zeros of padding, a value behind the end
    of an episode), so would their gradient not be.
    """
    states = rollout.observations
    ends = np.asarray(rollout.terminated)
    if ends.any():
        successors = np.where(_along(ends > 0, states), states, rollout.successors)
        rollout = rollout._replace(successors=successors)
    mask = np.asarray(rollout.mask)
    if mask.all():
        return rollout
    empty = mask.ravel() == 0
    rows = np.flatnonzero(~empty)
    places = np.arange(len(empty))
    places[empty] = np.resize(rows, len(places) - len(rows))

    def fill(x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, *x.shape[2:])[places].reshape(x.shape)

    names = ("observations", "noise", "actions", "successors")
    return rollout._replace(
        rewards=np.where(rollout.mask > 0, rollout.rewards, 0),
        **{name: fill(np.asarray(getattr(rollout, name))) for name in names},
    )


def _along(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    return x.reshape(*x.shape, *[1] * (like.ndim - x.ndim))


def to_tensors(rollout: Rollout) -> Rollout:
    """Returns a rollout as float32 tensors."""
    memory = tuple(tf.constant(state, tf.float32) for state in rollout.memory)
    rows = Rollout(*[tf.constant(field, tf.float32) for field in rollout.rows])
    return rows._replace(memory=memory)
