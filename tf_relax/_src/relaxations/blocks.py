"""Several categorical choices of different sizes, side by side on one axis."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_relax._src.relaxations.capabilities import (
    Antithetic,
    Conditional,
    Enumerable,
    Items,
    MeanOfLogits,
)
from tf_relax._src.relaxations.categorical import Categorical
from tf_relax._src.relaxations.law import GUMBEL
from tf_relax._src.relaxations.relaxation import Draw


class Blocks(Items, Antithetic, Conditional, MeanOfLogits, Enumerable):
    r"""Independent `Categorical` choices, one per block of the last axis.

    $a = [a_1, \ldots, a_k]$ with block $i$ of size $n_i$; `b`, `z` and all derivatives are laid out
    in the same way. Where all blocks have the same size, `Categorical` with an axis more says the
    same.

    Args:
        sizes: number of categories in every block.

    Raises:
        ValueError: for a block of fewer than 2 categories, or none at all.

    Example:

    >>> import tensorflow as tf
    >>> blocks = Blocks([2, 3])
    >>> a = tf.constant([[0.0, 1.0, 5.0, 0.0, 0.0]])
    >>> print(blocks.sample(a, tf.zeros_like(a)).b.numpy())
    [[0. 1. 1. 0. 0.]]
    """

    choice_rank = 1
    law = GUMBEL

    def __init__(self, sizes: Sequence[int]):
        if not sizes or min(sizes) < 2:
            raise ValueError(f"Blocks: every block needs at least 2 categories. Received: {sizes}")
        self.sizes = list(sizes)
        self._one = Categorical()

    def check_event(self, event_shape: tf.TensorShape) -> None:
        if event_shape.rank < 1 or event_shape[-1] != sum(self.sizes):
            raise ValueError(
                f"expects {sum(self.sizes)} logits on the last axis, in blocks of {self.sizes}. "
                f"Received event shape: {event_shape}"
            )

    def outcomes(self, event_shape: tf.TensorShape) -> np.ndarray:
        one = [np.eye(size) for size in self.sizes]
        return np.array([np.concatenate(rows) for rows in itertools.product(*one)])

    def num_outcomes(self, event_shape: tf.TensorShape) -> int:
        return int(np.prod(self.sizes))

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        b = self._map(lambda *block: self._one.sample(*block).b, a, noise)
        return Draw(noise=noise, z=a + noise, b=b)

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.relaxed_log_prob(a, draw.b)

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return self._stack(self._one.relaxed_log_prob, a, y)

    def kl(self, a: tf.Tensor, prior: tf.Tensor) -> tf.Tensor:
        return self._stack(self._one.kl, a, prior)

    def entropy(self, a: tf.Tensor) -> tf.Tensor:
        return self._stack(self._one.entropy, a)

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self._map(self._one.score, a, draw)

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self._one.relaxed_score(a, draw)  # element by element

    def conditional(self, a: tf.Tensor, draw: Draw, noise: tf.Tensor) -> tf.Tensor:
        return self._map(self._one.conditional, a, draw, noise)

    def delta_vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        return self._map(self._one.delta_vjp, a, draw, h)

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        return self._map(lambda block: self._one.relax(block, temperature), z)

    def mean(self, a: tf.Tensor) -> tf.Tensor:
        return self._map(self._one.mean, a)

    def mean_vjp(self, mean: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        return self._map(self._one.mean_vjp, mean, h)

    def _split(self, tensors: Sequence[Any]) -> Any:
        """Yields the arguments of every block."""

        def split(x: Any) -> list[Any]:
            if isinstance(x, Draw):
                return [Draw(*parts) for parts in zip(*map(split, x[:3]), strict=True)]
            return tf.split(x, self.sizes, axis=-1)

        return zip(*map(split, tensors), strict=True)

    def _map(self, function: Callable[..., tf.Tensor], *tensors: Any) -> tf.Tensor:
        return tf.concat([function(*block) for block in self._split(tensors)], axis=-1)

    def _stack(self, function: Callable[..., tf.Tensor], *tensors: Any) -> tf.Tensor:
        return tf.stack([function(*block) for block in self._split(tensors)], axis=-1)
