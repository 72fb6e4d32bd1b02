"""How the squared gradient of a trajectory depends on what every step contributes to it."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import keras
import tensorflow as tf

from tf_relax._src.rl.gradient.slopes import slopes
from tf_relax._src.rl.world.environments import Environments
from tf_relax._src.rl.world.recurrence import Seen, state_shapes


class Policy(Protocol):
    """What maps states to logits.

    Attributes:
        policy: Keras model.
        policy_loops: whether it runs loops; `None` to find out.
        environments: where the observations come from.
    """

    policy: keras.Model
    policy_loops: bool | None
    environments: Environments

    def unrolled_logits(self, seen: Seen) -> tf.Tensor:
        """Returns the logits of the policy at all rows, one below the other."""
        ...


def trajectory_gradients(trainer: Policy, seen: Seen, g: tf.Tensor) -> list[tf.Tensor]:
    """Returns ``G = sum_t J_t^T g_t`` of every trajectory, `[trajectories, ...]` per variable."""
    shapes = [variable.shape for variable in trainer.policy.trainable_variables]
    one = functools.partial(_pulled_back, trainer)
    return _each(trainer, one, shapes, seen, g)


def squared_gradient_slope(trainer: Policy, seen: Seen, g: tf.Tensor) -> tf.Tensor:
    """Returns ``J_t G``, half the derivative of ``|G|^2`` of its trajectory in ``g_t``.

    Args:
        trainer: of the policy, a `PolicyGradient`.
        seen: what the policy saw.
        g: gradients in the logits, `[steps * trajectories, logits]`.

    Returns:
        of the shape of `g`.
    """

    def one(seen: Seen, g_t: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(g_t)
            gradient = _pulled_back(trainer, seen, g_t)
            half = tf.add_n([tf.reduce_sum(tf.square(x)) for x in gradient]) / 2
        return [tape.gradient(half, g_t)]

    steps, logits = seen.observations.shape[0], g.shape[-1]
    (slope,) = _each(trainer, one, [(steps, logits)], seen, g)
    return tf.reshape(tf.experimental.numpy.swapaxes(slope, 0, 1), tf.shape(g))


def _pulled_back(trainer: Policy, seen: Seen, g_t: tf.Tensor) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        logits = trainer.unrolled_logits(seen)
    return slopes(tape, logits, trainer.policy.trainable_variables, seed=g_t)


def _each(
    trainer: Policy, one: Any, shapes: list[Any], seen: Seen, g: tf.Tensor
) -> list[tf.Tensor]:
    """Returns what `one` makes, of these shapes, of the states and gradients of each trajectory."""
    steps, trajectories = seen.observations.shape[:2]
    g = tf.reshape(g, [steps, trajectories, -1])
    if trajectories == 1:
        return [x[tf.newaxis] for x in one(seen, g[:, 0])]

    def column(parts: tuple[Any, ...]) -> list[tf.Tensor]:
        observations, carry, memory, g_t = parts
        first = tuple(state[tf.newaxis] for state in memory)
        return one(Seen(observations[:, tf.newaxis], carry[:, tf.newaxis], first), g_t)

    observations, carry, g = [
        tf.experimental.numpy.swapaxes(x, 0, 1) for x in (seen.observations, seen.carry, g)
    ]
    columns = (observations, carry, seen.memory, g)
    if not has_loops(trainer):
        return tf.vectorized_map(column, columns)
    # The derivatives of loops cannot be vectorized.
    signature = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return tf.map_fn(column, columns, fn_output_signature=signature)


def has_loops(trainer: Policy) -> bool:
    """Returns whether a policy runs loops, as recurrent layers do; found out once."""
    if trainer.policy_loops is None and state_shapes(trainer.policy):
        trainer.policy_loops = True
    if trainer.policy_loops is None:
        with tf.init_scope():
            spec = tf.TensorSpec((1, *trainer.environments.observation_shape))
            model = tf.function(lambda x: trainer.policy(x, training=False), autograph=False)
            traced = model.get_concrete_function(spec)
        definition = traced.graph.as_graph_def()
        nodes = [*definition.node]
        for function in definition.library.function:
            nodes += function.node_def
        trainer.policy_loops = any("While" in node.op for node in nodes)
    return trainer.policy_loops
