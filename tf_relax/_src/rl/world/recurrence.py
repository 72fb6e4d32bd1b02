"""Networks that remember: what they carry from step to step, and how they are unrolled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Seen(NamedTuple):
    """What a network sees of trajectories side by side.

    Attributes:
        observations: `[steps, trajectories, ...]`.
        carry: 0 in rows before which an episode ended, where it remembers nothing, and 1 in all
            others; `[steps, trajectories]`.
        memory: what it remembers at the first row: of every state `[trajectories, ...]`.
    """

    observations: Any
    carry: Any
    memory: tuple[Any, ...] = ()


def seen_in(rollout: Any, memory: tuple[Any, ...]) -> Seen:
    """Returns what is seen of a rollout, as tensors, from a memory on."""
    goes_on = (1 - rollout.done) * rollout.mask
    carry = tf.concat([tf.ones_like(goes_on[:1]), goes_on[:-1]], axis=0)
    return Seen(rollout.observations, carry, memory)


def state_shapes(model: Any) -> list[tuple[int, ...]]:
    """Returns the shapes of what a model remembers; none of a model with one input.

    A model that remembers maps `[observations, *states]` to `[output, *states]`.
    """
    inputs = getattr(model, "inputs", None) or ()
    return [tuple(each.shape[1:]) for each in inputs[1:]]


def blank(shapes: list[tuple[int, ...]], count: int) -> tuple[np.ndarray, ...]:
    """Returns what is remembered at the start of an episode: zeros, `[count, ...]`."""
    return tuple(np.zeros((count, *shape), np.float32) for shape in shapes)


def forgetting(memory: Any, ended: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns what is remembered, `[batch, ...]`, with nothing of episodes that ended."""
    return tuple(np.where(ended.reshape(-1, *[1] * (x.ndim - 1)), 0, x) for x in memory)


def step(
    model: Any, observations: tf.Tensor, memory: tuple[tf.Tensor, ...]
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Returns a model's output in float32, `[batch, ...]`, and what it then remembers."""
    if not state_shapes(model):
        return tf.cast(model(observations, training=False), tf.float32), ()
    output, *states = model([observations, *memory], training=False)
    return tf.cast(output, tf.float32), tuple(tf.cast(state, tf.float32) for state in states)


def unroll(model: Any, seen: Seen) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Returns the outputs at all rows and what is remembered after them, one below the other."""
    if not state_shapes(model):
        return step(model, _rows(seen.observations), ())

    def go_on(before: Any, row: Any) -> Any:
        observations, carry = row
        memory = tuple(state * _along(carry, state) for state in before[1])
        return step(model, observations, memory)

    first = seen.observations[0]
    output, _ = tf.nest.map_structure(tf.zeros_like, step(model, tf.zeros_like(first), seen.memory))
    rows = (seen.observations, seen.carry)
    outputs, states = tf.scan(go_on, rows, initializer=(output, seen.memory))
    return _rows(outputs), tuple(_rows(state) for state in states)


def _along(x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [-1, *[1] * (len(like.shape) - 1)])


def _rows(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [-1, *x.shape[2:]])
