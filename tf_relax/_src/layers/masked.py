"""Choices of which some are ruled out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_relax._src.layers.discrete import Discrete


class Masked(Discrete):
    """Base of the layers that choose among items, not all of which may be chosen.

    Args:
        mask: booleans, broadcast over the event: items that may be chosen. `None` is all of them.
        num_chosen: how many different items a sample needs.
        **kwargs: arguments of `Discrete`.
    """

    def __init__(self, mask: Sequence[Any] | None, num_chosen: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.mask = None if mask is None else np.asarray(mask, dtype=bool)
        if self.mask is None:
            return
        alive = int(self.mask.sum(axis=-1).min()) if self.mask.ndim else 0
        if alive < num_chosen:
            raise ValueError(
                f"{self._label()}: the mask leaves {alive} items to choose from, and {num_chosen} "
                "are needed."
            )

    def build(self, logits_shape: Any, context_shape: Any = None) -> None:
        super().build(logits_shape, context_shape)
        self._check_broadcasts("mask", self.mask, logits_shape)

    def _mask(self, logits: tf.Tensor, **masks: Any) -> tf.Tensor | None:
        if self.mask is not None:
            axes = [1] * (logits.shape.rank - self.mask.ndim)
            masks["the layer's own mask"] = self.mask.reshape([*axes, *self.mask.shape])
        return super()._mask(logits, **masks)

    def get_config(self) -> dict[str, Any]:
        mask = None if self.mask is None else self.mask.tolist()
        return {**super().get_config(), "mask": mask}
