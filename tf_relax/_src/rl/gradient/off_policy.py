"""A surrogate fitted to earlier rollouts, and frozen while the current gradient is taken."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tf_relax._src.rl.world.rollout import Rollout


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class OffPolicy:
    r"""Fits $c(a, s)$ to $r + \gamma V(s') - V(s)$ on steps of earlier rollouts.

    What an action is worth one step ahead does not depend on the policy that took it, given the
    values of the states around it. Rollouts of earlier policies therefore go on being useful, while
    the squared gradient knows only the latest. As $c$ was fitted before the current rollout
    existed, the estimate stays unbiased, however wrong $c$ is. Without a value function the target
    is the return that followed the step.

    Args:
        capacity: steps that are remembered.
        updates: gradient steps on $c$ per rollout.
        batch_size: steps that each of them looks at.

    Raises:
        ValueError: for numbers below 1.

    Example:

    >>> OffPolicy(updates=50).updates
    50
    """

    def __init__(self, capacity: int = 10_000, updates: int = 20, batch_size: int = 256):
        for name, value in (
            ("capacity", capacity),
            ("updates", updates),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise ValueError(f"OffPolicy: `{name}` must be at least 1. Received: {value}")
        self.capacity = capacity
        self.updates = updates
        self.batch_size = batch_size

    def get_config(self) -> dict[str, Any]:
        return {
            "capacity": self.capacity,
            "updates": self.updates,
            "batch_size": self.batch_size,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OffPolicy:
        return cls(**config)

    def __repr__(self) -> str:
        config = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"OffPolicy({config})"


class Memory:
    """The latest steps, in arrays that are filled round and round."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.size = self._next = 0
        self._arrays: list[np.ndarray] = []

    def add(self, rollout: Rollout, returns: np.ndarray) -> None:
        """Remembers the steps of a rollout, and what followed each."""
        counts = np.asarray(rollout.mask) > 0
        fields = (
            rollout.observations,
            rollout.actions,
            rollout.rewards,
            rollout.successors,
            rollout.terminated,
            returns,
        )
        new = [np.asarray(field)[counts][-self.capacity :] for field in fields]
        if not self._arrays:
            self._arrays = [np.zeros((self.capacity, *x.shape[1:]), np.float32) for x in new]
        places = (self._next + np.arange(len(new[0]))) % self.capacity
        for array, x in zip(self._arrays, new, strict=True):
            array[places] = x
        self._next = int(self._next + len(places)) % self.capacity
        self.size = min(self.size + len(places), self.capacity)

    def sample(self, shape: tuple[int, ...], rng: np.random.Generator) -> list[np.ndarray]:
        """Returns steps drawn with replacement."""
        places = rng.integers(self.size, size=shape)
        return [array[places] for array in self._arrays]
