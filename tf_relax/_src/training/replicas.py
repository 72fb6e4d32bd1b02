"""Several replicas: what part of a batch each has, and how the parts join.

Every replica of a `tf.distribute` strategy computes what a single device would on its share of the
batch. Everything that is a mean over examples, gradients and moving averages among it, is then
weighted by that share,

    mean over the batch = sum_r (n_r / n) mean_r,

and added up: optimizers do so with gradients by themselves.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def check_strategy(name: str, strategy: Any, steps_per_execution: Any) -> None:
    """Raises an error for strategies, and options in them, that a model cannot be compiled under.

    Args:
        name: of the model.
        strategy: that it was made under.
        steps_per_execution: as given to `compile`.

    Raises:
        ValueError: names both and what works.
    """
    kind = type(strategy).__name__
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise ValueError(
            f"RelaxModel '{name}' does not train under {kind}: its workers do not wait for one "
            "another, and an estimate needs the weights of one moment for all its evaluations. "
            "Use MultiWorkerMirroredStrategy."
        )
    if strategy.num_replicas_in_sync == 1:
        return
    on_cpus = any("CPU" in device for device in strategy.extended.worker_devices)
    if on_cpus and steps_per_execution not in (None, 1):
        raise ValueError(
            f"RelaxModel '{name}': TensorFlow cannot run several steps of {kind} in one graph on "
            "CPUs, those of a plain keras.Model neither. Use steps_per_execution=1."
        )


def compiles_by_replica(strategy: Any, jit_compile: Any) -> bool:
    """Returns whether XLA is to compile what each replica computes, and not the step as a whole.

    A step of several replicas is no program of one device, which is what XLA compiles. TPUs do so
    by themselves.
    """
    several = strategy.num_replicas_in_sync > 1
    return jit_compile is True and several and not isinstance(strategy, tf.distribute.TPUStrategy)


def as_logs(logs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the logs of a step in the shape in which Keras joins those of several machines."""
    if not isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
        return logs
    return tf.nest.map_structure(lambda value: tf.reshape(value, [1]), logs)


class Replicas:
    """The replicas of one step, seen from one of them.

    Args:
        batch: how many examples this one has, a scalar.

    Attributes:
        count: how many replicas the strategy has; Keras divides means over examples by it.
        batch: how many examples this replica has.
        global_batch: how many all of them have.
    """

    def __init__(self, batch: tf.Tensor):
        self.count = int(tf.distribute.get_strategy().num_replicas_in_sync)
        # Outside of all replicas, as in a metric that is computed at once, there is one part.
        self._context = tf.distribute.get_replica_context() if self.count > 1 else None
        self.batch = batch
        self.global_batch = self.total(batch)

    def total(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the sum over replicas."""
        if self._context is None:
            return x
        return self._context.all_reduce(tf.distribute.ReduceOp.SUM, x)

    def share(self, x: Any) -> Any:
        """Returns what this replica adds to a mean over the whole batch, given its own.

        Also of gradients that are `tf.IndexedSlices`, or `None`.
        """
        if self._context is None or x is None:
            return x
        if isinstance(x, tf.IndexedSlices):
            return tf.IndexedSlices(self.share(x.values), x.indices, x.dense_shape)
        weight = tf.cast(self.batch, x.dtype) / tf.cast(self.global_batch, x.dtype)
        return self.if_any(weight * x)

    def if_any(self, x: tf.Tensor) -> tf.Tensor:
        """Returns a mean over the examples of this replica; 0 if it has none.

        Which is so for the last batch of an epoch if it has fewer examples than there are replicas.
        """
        return x if self._context is None else tf.where(self.batch > 0, x, tf.zeros_like(x))

    def mean(self, x: tf.Tensor) -> tf.Tensor:
        """Returns a mean over the whole batch, given that over the examples of this replica."""
        return self.total(self.share(x))
