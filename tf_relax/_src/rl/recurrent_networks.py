"""Policies and values that remember what they have seen of an episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tf_relax._src.rl.networks import actions_layer
from tf_relax._src.rl.world.environments import Environments

_CELLS = {"gru": keras.layers.GRUCell, "lstm": keras.layers.LSTMCell}


def recurrent_policy(
    env: Any,
    units: int = 64,
    cell: Any = "gru",
    torso: keras.Model | None = None,
    log_scale: float = 0.0,
) -> keras.Model:
    """Returns a recurrent policy, from `[observations, *states]` to `[logits, *states]`.

    The trainer carries the states through its roll-outs, and unrolls the policy in its updates.

    Args:
        env: as `PolicyGradient` takes it.
        units: size of the cell's state.
        cell: `"gru"`, `"lstm"`, or a Keras cell layer such as `keras.layers.StackedRNNCells`.
        torso: from observations to what the cell sees; `None` flattens them.
        log_scale: of continuous actions, where the log standard deviation starts.

    Raises:
        ValueError: for another name of a cell.

    Example:

    >>> policy = recurrent_policy("CartPole-v1", units=8)
    >>> [tuple(x.shape) for x in policy.outputs]
    [(None, 2), (None, 8)]
    """
    environments = Environments(env, 1)
    last = actions_layer(environments, log_scale)
    shape = environments.observation_shape
    environments.close()
    return _recurrent(shape, _cell(cell, units), torso, last, "policy")


def recurrent_value(
    observation_shape: Sequence[int],
    units: int = 64,
    cell: Any = "gru",
    torso: keras.Model | None = None,
) -> keras.Model:
    """Returns a recurrent state value, from `[observations, *states]` to `[value, *states]`.

    Args:
        observation_shape: of one observation.
        units: size of the cell's state.
        cell: `"gru"`, `"lstm"`, or a Keras cell layer.
        torso: from observations to what the cell sees; `None` flattens them.

    Raises:
        ValueError: for another name of a cell.

    Example:

    >>> value = recurrent_value((4,), units=8, cell="lstm")
    >>> [tuple(x.shape) for x in value.outputs]
    [(None, 1), (None, 8), (None, 8)]
    """
    last = keras.layers.Dense(1, kernel_initializer="zeros")
    return _recurrent(tuple(observation_shape), _cell(cell, units), torso, last, "value")


def _cell(cell: Any, units: int) -> Any:
    if not isinstance(cell, str):
        return cell
    if cell not in _CELLS:
        raise ValueError(f"`cell` must be one of {sorted(_CELLS)}, or a layer. Received: {cell!r}")
    return _CELLS[cell](units)


def _recurrent(shape: Any, cell: Any, torso: Any, last: keras.Layer, name: str) -> keras.Model:
    observations = keras.Input(shape, name="observations")
    features = (torso or keras.layers.Flatten())(observations)
    sizes = keras.tree.flatten(cell.state_size)
    states = [keras.Input((size,), name=f"state_{k}") for k, size in enumerate(sizes)]
    before = keras.tree.pack_sequence_as(cell.state_size, states)
    output, after = cell(features, before if isinstance(before, (list, tuple)) else [before])
    outputs = [last(output), *keras.tree.flatten(after)]
    return keras.Model([observations, *states], outputs, name=name)
