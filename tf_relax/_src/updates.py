"""One step of an optimizer, of which nothing stays in memory but the new weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def apply(
    optimizer: Any, gradients: Sequence[tf.Tensor | None], variables: Sequence[keras.Variable]
) -> None:
    """Does what ``optimizer.apply(gradients, variables)`` does.

    In a replica context Keras adds up the gradients of all replicas by an op with a custom
    gradient, even where there is one replica. TensorFlow registers the custom gradients of graphs
    for as long as the process lives, so every graph that ever trained would stay in memory. In a
    cross-replica context, which is the same but for that sum, there is none.
    """
    replica = tf.distribute.get_replica_context()
    # A LossScaleOptimizer insists on a replica context: all replicas have to skip a step together.
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if replica is None or scaled or tf.distribute.has_strategy():
        optimizer.apply(gradients, variables)
    else:
        replica.merge_call(lambda _: optimizer.apply(gradients, variables))
