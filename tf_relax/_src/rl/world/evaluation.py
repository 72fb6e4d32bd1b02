"""How well a policy does, on episodes of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tf_relax._src.rl.world.environments import Environments


def another(environments: Environments, env: Any) -> Environments:
    """Returns an environment that is made afresh, where we know how; else those of training.

    Args:
        environments: of training.
        env: what they were made from.
    """
    if not environments.owned:
        return environments
    return Environments(env, 1, environments.action_bounds)


def evaluate(
    environments: Environments,
    act: Callable[..., tuple[np.ndarray, Any]],
    n_episodes: int,
    seed: int | None,
) -> np.ndarray:
    """Returns the undiscounted returns of episodes.

    As in training, the episodes are allotted to the environments beforehand, so that short ones
    count no more than long ones.

    Args:
        environments: where to act; they are reset.
        act: samples, or modes, for observations and what is remembered, and what then is.
        n_episodes: how many episodes.
        seed: of the environments.

    Raises:
        ValueError: for less than one episode.
    """
    if n_episodes < 1:
        raise ValueError(f"`n_episodes` must be at least 1. Received: {n_episodes}")
    count = environments.n_envs
    left = np.full(count, n_episodes // count) + (np.arange(count) < n_episodes % count)
    returns: list[float] = []
    totals = np.zeros(count)
    environments.reset(seed)
    for i in np.flatnonzero(left == 0).tolist():
        environments.pause(i)
    while left.any():
        assert environments.observations is not None
        b, environments.memory = act(environments.observations, memory=environments.memory)
        step = environments.step(b)
        totals += np.where(step.counts, step.rewards, 0.0)
        ended = step.done & (left > 0)
        returns += totals[ended].tolist()
        totals[step.done] = 0.0
        left -= ended
        for i in np.flatnonzero(ended & (left == 0)).tolist():
            environments.pause(i)
    environments.forget()
    return np.array(returns)
