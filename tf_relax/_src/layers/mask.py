"""Masks: of items that cannot be chosen, and of steps that are padding."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.relaxations import BinaryUnits, Items, Relaxation
from tf_relax._src.relaxations.impossible import IMPOSSIBLE


def combined_mask(
    layer: Any, relaxation: Relaxation, logits: tf.Tensor, **masks: Any
) -> tf.Tensor | None:
    """Returns the masks of a call as one, with as many axes as the logits; `None` if there is none.

    Args:
        layer: that was called, for messages.
        relaxation: what the logits are those of.
        logits: `[batch, *event]`.
        **masks: by the names of their arguments; `None` is left out.

    Raises:
        ValueError: for a mask that does not fit.
    """
    given = [
        as_mask(layer, relaxation, name, mask, logits)
        for name, mask in masks.items()
        if mask is not None
    ]
    return functools.reduce(tf.logical_and, given) if given else None


def restricted(relaxation: Relaxation, logits: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Returns logits that rule out what is masked, and are finite."""
    if mask is not None and isinstance(relaxation, (Items, BinaryUnits)):
        logits = tf.where(mask, logits, tf.constant(IMPOSSIBLE, logits.dtype))
    return relaxation.bounded(logits)


def as_mask(
    layer: Any, relaxation: Relaxation, name: str, mask: Any, logits: tf.Tensor
) -> tf.Tensor:
    """Returns a mask as booleans, with axes of size 1 behind those that it has.

    As Keras's own, masks start with the batch: `[batch, steps]` is one boolean for each step of
    logits `[batch, steps, items]`.

    Args:
        layer: that was called, for messages.
        relaxation: what the logits are those of.
        name: of the argument, for messages.
        mask: booleans, or numbers of which 0 is false.
        logits: `[batch, *event]`.

    Raises:
        ValueError: if it does not fit the logits, or rules out items where there are none.
    """
    label = f"{type(layer).__name__} '{layer.name}'"
    mask, rank = tf.cast(mask, tf.bool), logits.shape.rank
    fits = mask.shape.rank <= rank and all(
        size in (1, None) or of_logits in (size, None)
        for size, of_logits in zip(mask.shape, logits.shape, strict=False)
    )
    if not fits:
        raise ValueError(
            f"{label}: `{name}` has the shape {tuple(mask.shape)}, which does not fit "
            f"logits of shape {tuple(logits.shape)}. It holds one boolean per logit, and starts "
            "with the batch; for a whole step one will do, [batch, steps]."
        )
    within_choices = mask.shape.rank > rank - relaxation.choice_rank
    if within_choices and relaxation.choice_rank and not isinstance(relaxation, Items):
        raise ValueError(
            f"{label}: `{name}` has the shape {tuple(mask.shape)}, and its logits, of shape "
            f"{tuple(logits.shape)}, do not belong to items that could be ruled out. Use a layer "
            "with one logit per item, such as RelaxCategorical(method='gumbel') or "
            "RelaxPermutation(method='plackett_luce'), or a mask of whole steps."
        )
    for _ in range(rank - mask.shape.rank):
        mask = mask[..., tf.newaxis]
    return mask


def of_steps(relaxation: Relaxation, logits: Any, masks: Iterable[Any]) -> Any:
    """Returns the mask that samples have: what the masks of their logits say of whole steps.

    Args:
        relaxation: what the logits are those of.
        logits: `[batch, *event]`, perhaps symbolic.
        masks: of the logits; `None` is left out.
    """
    # A mask of single units is none of steps: Keras would hold it against the steps of a loss.
    most = len(logits.shape) - max(relaxation.choice_rank, 1)
    found = [mask for mask in masks if mask is not None and 1 <= len(mask.shape) <= most]
    if not found:
        return None
    result = found[0]
    for mask in found[1:]:  # in Keras's operations: they may be symbolic
        result = keras.ops.logical_and(result, mask)
    return result


def where_counted(mask: tf.Tensor | None, divergence: tf.Tensor) -> tf.Tensor:
    """Returns a divergence per event element, `[batch, ...]`, without those that are masked.

    Args:
        mask: booleans, with as many axes as the logits, or `None`.
        divergence: one number per unit or choice, summed over the axes of a choice.
    """
    if mask is None:
        return divergence
    rank = divergence.shape.rank
    while mask.shape.rank > rank and mask.shape[-1] == 1:
        mask = mask[..., 0]
    if mask.shape.rank > rank:
        return divergence  # a mask of items, of which the divergence knows
    return tf.where(mask, divergence, tf.zeros_like(divergence))
