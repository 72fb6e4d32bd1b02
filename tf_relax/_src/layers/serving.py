"""How stochastic layers answer in a model that is being exported."""

from __future__ import annotations

import threading
from typing import Any

import tensorflow as tf

from tf_relax._src.relaxations.noise import stream

_active = threading.local()

# Far from 0 and from itself: seeds of neighbours with steps of their own do not meet.
_ODD = -1640531535


class Serving:
    """While its `with` block is active, layers draw from seeds that are no variables.

    Nothing is differentiated, so that samples are plain constants to whatever runs the model.

    Args:
        inference: what layers return, or `None` for what each was made with.
        seed: of all noise, `[2]`, int32.
        seeds: instead of it one for every example, `[batch]`, int64: what is drawn for an example
            is then the same in every batch.

    Attributes:
        means: of the samples of every layer whose relaxation knows them, by its name, and from the
            second call of that name on by `name.1`, `name.2`.
    """

    def __init__(
        self,
        inference: str | None = None,
        seed: tf.Tensor | None = None,
        seeds: tf.Tensor | None = None,
    ):
        self.inference, self.seed, self.seeds = inference, seed, seeds
        self.means: dict[str, tf.Tensor] = {}

    def __enter__(self) -> Serving:
        _active.serving = self
        return self

    def __exit__(self, *exception: Any) -> None:
        _active.serving = None

    def keep_mean(self, name: str, mean: tf.Tensor) -> None:
        """Keeps the mean of the samples of one call of a layer."""
        key, calls = name, 0
        while key in self.means:
            calls += 1
            key = f"{name}.{calls}"
        self.means[key] = mean

    def by_example(self, layer: Any, logits: tf.Tensor, position: int) -> tf.Tensor:
        """Returns what a layer returns, with every example drawn by its own seed.

        Args:
            layer: stochastic.
            logits: `[batch, *event]`.
            position: of the call among those of all stochastic layers.
        """
        seeds = tf.bitcast(tf.cast(self.seeds, tf.int64), tf.int32)  # [batch, 2]
        # An example may have several rows of logits, as the steps of a sequence do.
        step = tf.range(tf.shape(logits)[0] // tf.shape(seeds)[0]) * _ODD
        seeds = tf.stack([seeds[:, None, 0] + 0 * step, seeds[:, None, 1] + step], axis=-1)
        seeds = stream(tf.reshape(seeds, [-1, 2]), position)
        relaxation = layer.relaxation

        def of_row(row: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            a, seed = row[0][tf.newaxis], row[1]
            # XLA wants to know the shape of what a loop makes.
            static, dynamic = relaxation.noise_shape(a.shape).as_list(), tf.shape(a)
            shape = [dynamic[k] if size is None else size for k, size in enumerate(static)]
            return layer.as_output(relaxation.sample(a, relaxation.noise(shape, a.dtype, seed)))[0]

        dtype = layer.compute_dtype if layer.relaxable else "int32"
        return tf.map_fn(of_row, (logits, seeds), fn_output_signature=dtype)


def current_serving() -> Serving | None:
    """Returns the active `Serving` of this thread, or `None`."""
    return getattr(_active, "serving", None)
