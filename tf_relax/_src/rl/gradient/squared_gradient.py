"""How the squared gradient of a trajectory depends on what every step contributes to it."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import keras
import tensorflow as tf

from tf_relax._src.rl.gradient.slopes import slopes
from tf_relax._src.rl.world.environments import Environments


class Policy(Protocol):
    """What maps states to logits.

    Attributes:
        policy: Keras model.
        policy_loops: whether it runs loops; `None` to find out.
        environments: where the states come from.
    """

    policy: keras.Model
    policy_loops: bool | None
    environments: Environments

    def logits(self, states: tf.Tensor) -> tf.Tensor:
        """Returns the logits of the policy, for observations as it sees them."""
        ...


def trajectory_gradients(trainer: Policy, observations: tf.Tensor, g: tf.Tensor) -> list[tf.Tensor]:
    """Returns ``G = sum_t J_t^T g_t`` of every trajectory, `[trajectories, ...]` per variable."""
    shapes = [variable.shape for variable in trainer.policy.trainable_variables]
    one = functools.partial(_pulled_back, trainer)
    return _each(trainer, one, shapes, observations, g)


def squared_gradient_slope(trainer: Policy, observations: tf.Tensor, g: tf.Tensor) -> tf.Tensor:
    """Returns ``J_t G``, half the derivative of ``|G|^2`` of its trajectory in ``g_t``.

    Args:
        trainer: of the policy, a `PolicyGradient`.
        observations: as the policy sees them, `[steps, trajectories, ...]`.
        g: gradients in the logits, `[steps * trajectories, logits]`.

    Returns:
        of the shape of `g`.
    """

    def one(states: tf.Tensor, g_t: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(g_t)
            gradient = _pulled_back(trainer, states, g_t)
            half = tf.add_n([tf.reduce_sum(tf.square(x)) for x in gradient]) / 2
        return [tape.gradient(half, g_t)]

    steps, logits = observations.shape[0], g.shape[-1]
    (slope,) = _each(trainer, one, [(steps, logits)], observations, g)
    return tf.reshape(tf.experimental.numpy.swapaxes(slope, 0, 1), tf.shape(g))


def _pulled_back(trainer: Policy, states: tf.Tensor, g_t: tf.Tensor) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        logits = trainer.logits(states)
    return slopes(tape, logits, trainer.policy.trainable_variables, seed=g_t)


def _each(
    trainer: Policy, one: Any, shapes: list[Any], observations: tf.Tensor, g: tf.Tensor
) -> list[tf.Tensor]:
    """Returns what `one` makes, of these shapes, of the states and gradients of each trajectory."""
    steps, trajectories = observations.shape[:2]
    g = tf.reshape(g, [steps, trajectories, -1])
    if trajectories == 1:
        return [x[tf.newaxis] for x in one(observations[:, 0], g[:, 0])]
    columns = tuple(tf.experimental.numpy.swapaxes(x, 0, 1) for x in (observations, g))
    if not has_loops(trainer):
        return tf.vectorized_map(lambda pair: one(*pair), columns)
    # The derivatives of loops cannot be vectorized.
    signature = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return tf.map_fn(lambda pair: one(*pair), columns, fn_output_signature=signature)


def has_loops(trainer: Policy) -> bool:
    """Returns whether a policy runs loops, as recurrent layers do; found out once."""
    if trainer.policy_loops is None:
        with tf.init_scope():
            spec = tf.TensorSpec((1, *trainer.environments.observation_shape))
            traced = tf.function(trainer.logits, autograph=False).get_concrete_function(spec)
        definition = traced.graph.as_graph_def()
        nodes = [*definition.node]
        for function in definition.library.function:
            nodes += function.node_def
        trainer.policy_loops = any("While" in node.op for node in nodes)
    return trainer.policy_loops
