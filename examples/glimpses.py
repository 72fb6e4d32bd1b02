"""Views of a canvas: all of it at a low resolution, or a few glimpses; for `hard_attention.py`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import layers, ops

from canvases import SIDE

STEP = 4  # between positions of the glimpse, and the side of a pixel of the coarse view


class CoarseView(layers.Layer):
    """Averages squares of STEP x STEP pixels, as a sensor of lower resolution would."""

    def call(self, canvas: Any) -> Any:
        return ops.average_pool(canvas, STEP, STEP)


class Glimpses(layers.Layer):
    """Cuts out what one-hot rows `[batch, k, positions]` point at: `[batch, k, glimpse^2]`.

    Also defined for weights between 0 and 1, which blend the patches: the surrogate relaxes the
    choice. For training, where the patches of all positions exist side by side.
    """

    def __init__(self, glimpse: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.glimpse = glimpse

    def call(self, canvas: Any, choice: Any) -> Any:
        patches = tf.image.extract_patches(
            canvas, [1, self.glimpse, self.glimpse, 1], [1, STEP, STEP, 1], [1] * 4, "VALID"
        )
        patches = ops.reshape(patches, (-1, choice.shape[2], self.glimpse**2))
        return ops.matmul(choice, patches)

    def compute_output_shape(self, canvas_shape: Any, choice_shape: Any) -> Any:
        return (*choice_shape[:2], self.glimpse**2)


class Crops(Glimpses):
    """Cuts out what indices `[batch, k]` point at, and touches no other pixel: for serving."""

    def call(self, canvas: Any, choice: Any) -> Any:
        across = positions(self.glimpse)
        within = tf.range(self.glimpse)
        y = (STEP * (choice // across))[:, :, None] + within
        x = (STEP * (choice % across))[:, :, None] + within
        flat = (y * SIDE)[:, :, :, None] + x[:, :, None, :]
        pixels = tf.gather(tf.reshape(canvas, [-1, SIDE**2]), flat, batch_dims=1)
        return tf.reshape(pixels, [-1, choice.shape[1], self.glimpse**2])

    def compute_output_shape(self, canvas_shape: Any, choice_shape: Any) -> Any:
        return (*choice_shape, self.glimpse**2)


def positions(glimpse: int) -> int:
    """Returns the number of positions of the glimpse along a side."""
    return (SIDE - glimpse) // STEP + 1
