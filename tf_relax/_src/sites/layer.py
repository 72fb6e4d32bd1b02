"""What a stochastic layer shows to handlers, estimators and training."""

from __future__ import annotations

from typing import Any, Protocol

import keras
import tensorflow as tf

from tf_relax._src.relaxations import Draw
from tf_relax._src.sites.shapes import Shapes


class StochasticLayer(Protocol):
    """A stochastic layer; those of `tf_relax.layers` are.

    Attributes:
        name: its name.
        built: whether it has been called, or built.
        trainable: whether anything learns for it.
        relaxation: what it draws. Of which kind it has to be an estimator says in its `needs`.
        relaxable: whether its output has a relaxed stand-in; indices have none.
        noise_dtype: of noise, z and log-probabilities: float32 or better.
        compute_dtype: of its output.
        logits_rank: rank of its logits.
        shapes: of what it is called with.
        seed_generator: of its noise.
    """

    name: str
    built: bool
    trainable: bool
    relaxation: Any
    relaxable: bool
    noise_dtype: str
    compute_dtype: str
    logits_rank: int
    shapes: Shapes
    seed_generator: keras.random.SeedGenerator

    def noise(self, logits: tf.Tensor, count: int = 1, position: int | None = None) -> tf.Tensor:
        """Draws fresh noise for logits, `[count, batch, *event]`."""
        ...

    def as_output(self, draw: Draw) -> tf.Tensor:
        """Returns what a hard sample looks like to the rest of the model."""
        ...

    def hard_output(self, logits: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        """Returns a hard output as it is outside of training."""
        ...

    def relaxed_output(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """Returns ``relax(z, t)``."""
        ...
