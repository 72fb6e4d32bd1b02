"""Running statistics that wrappers of the environments keep, such as `NormalizeObservation`."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from tf_relax._src.rl.world.gym import gymnasium

# What `NormalizeObservation` and `NormalizeReward` call theirs.
_NAMES = ("obs_rms", "return_rms")
# Of so many values that a few more change nothing.
_FOREVER = 1e18


def read(vector: Any) -> dict[str, list[Any]]:
    """Returns copies of the statistics by name: of every environment, or of the vector wrapper."""
    found: dict[str, list[Any]] = {}
    for name in _NAMES:
        wrapper = _vector_wrapper(vector, name)
        if wrapper is not None:
            found[name] = [copy.deepcopy(getattr(wrapper, name))]
        elif _all_have(vector, name):
            found[name] = [copy.deepcopy(moments) for moments in vector.unwrapped.get_attr(name)]
    return found


def write(vector: Any, statistics: dict[str, list[Any]]) -> None:
    """Gives copies of statistics to every environment that keeps some of that name."""
    for name, every in statistics.items():
        wrapper = _vector_wrapper(vector, name)
        if wrapper is not None:
            setattr(wrapper, name, copy.deepcopy(every[0]))
        elif _all_have(vector, name):
            values = [copy.deepcopy(every[i % len(every)]) for i in range(vector.num_envs)]
            vector.unwrapped.set_attr(name, values)


@contextlib.contextmanager
def lent(training: Any, evaluation: Any) -> Iterator[None]:
    """Lets an evaluation see what the policy saw in training, and leaves no trace of it.

    Args:
        training: vector environment whose statistics they are.
        evaluation: the one to act in; may be the same.
    """
    statistics = read(training)
    fixed = copy.deepcopy(statistics)
    for moments in (moments for every in fixed.values() for moments in every):
        moments.count = _FOREVER
    write(evaluation, fixed)
    try:
        yield
    finally:
        write(training, statistics)


def to_arrays(statistics: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    """Returns what `read` gave as arrays, for a file."""
    return {
        f"environment_{name}_{field}": np.array([getattr(moments, field) for moments in every])
        for name, every in statistics.items()
        for field in ("mean", "var", "count")
    }


def from_arrays(statistics: dict[str, list[Any]], store: Any) -> None:
    """Fills statistics of the same kind with what a file holds of them."""
    for name, every in statistics.items():
        for field in ("mean", "var", "count"):
            key = f"environment_{name}_{field}"
            if key not in store:
                continue
            values = np.array(store[key])
            for k, moments in enumerate(every):
                value = values[k % len(values)]
                setattr(moments, field, value.copy() if value.ndim else float(value))


def _vector_wrapper(vector: Any, name: str) -> Any:
    while isinstance(vector, gymnasium.vector.VectorWrapper):
        if name in vars(vector):
            return vector
        vector = vector.env
    return None


def _all_have(vector: Any, name: str) -> bool:
    # Asking processes for what they lack would end them: first, whether they have it.
    kinds = (gymnasium.vector.SyncVectorEnv, gymnasium.vector.AsyncVectorEnv)
    if not isinstance(vector.unwrapped, kinds):
        return False
    return all(vector.unwrapped.call("has_wrapper_attr", name))
