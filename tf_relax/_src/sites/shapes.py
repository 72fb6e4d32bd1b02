"""Shapes around a stochastic layer: all that an estimator has to know to make its state."""

from __future__ import annotations

from typing import NamedTuple


class Shapes(NamedTuple):
    """Shapes of what a stochastic layer is called with, and of its relaxed sample.

    Attributes:
        z: `[batch, *event]`; `None` stands for sizes that are not known.
        logits: `[batch, *event]`.
        context: `[batch, ...]`, or `None` for a layer that is called without one.
    """

    z: tuple[int | None, ...]
    logits: tuple[int | None, ...]
    context: tuple[int | None, ...] | None
