"""The compiled loss as one value per example."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax.losses import BlackBox
from tf_relax.relaxations.event import sum_event


class Objective(NamedTuple):
    """The objective of one pass.

    Attributes:
        loss: scalar, what Keras calls the loss: the mean over examples plus regularizers.
        f: per-example values, `[batch]`, whose mean is the part of the loss that examples own.
        shared: scalar `add_loss` terms and regularizers, which no example owns.
    """

    loss: tf.Tensor
    f: tf.Tensor
    shared: list[tf.Tensor]


def per_example_objective(
    model: keras.Model, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool = True
) -> Objective:
    """Takes the loss of a compiled model apart into one value per example.

    The loss is linear in the sample weights, ``loss = sum_i s_i l_i`` at ``s = 1``, whatever it is
    made of: several outputs, loss weights, temporal weights, masks. Its derivative in ``s_i`` is
    therefore exactly what example i contributes, and costs nothing but the loss itself.

    Args:
        model: a compiled model whose forward pass has just run.
        x: inputs.
        y: targets.
        y_pred: outputs.
        sample_weight: the user's weights, or `None`.
        training: passed on to `compute_loss`.

    Raises:
        ValueError: if the loss does not depend on the sample weights, or if an `add_loss` term has
            a first dimension that is not the batch.
    """
    batch = tf.shape(keras.tree.flatten(x)[0])[0]
    additional = list(model.losses)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        s = tf.ones([batch], keras.config.floatx())
        tape.watch(s)
        loss = model.compute_loss(
            x=x,
            y=y,
            y_pred=y_pred,
            sample_weight=_weighted(sample_weight, s),
            training=training,
        )
    contribution = tape.gradient(loss, s)
    if contribution is None:
        if y is not None and model.loss is not None:
            raise ValueError(
                "The compiled loss carries no per-example values: it does not depend on the sample "
                "weights. Use a loss that returns one value per example with the reduction "
                "'sum_over_batch_size' or 'sum', and pass `sample_weight` on in `compute_loss`."
            )
        contribution = tf.zeros_like(s)
    shared = []
    for term in additional:
        if term.shape.rank == 0:
            shared.append(term)
        else:
            # Keras adds up what add_loss is given, so each example contributes its own sum.
            contribution += tf.cast(sum_event(term), contribution.dtype)
    if type(model).compute_loss is not keras.Model.compute_loss:
        _check_linear(loss, contribution, shared)
    return Objective(loss, contribution * tf.cast(batch, contribution.dtype), shared)


def _check_linear(loss: tf.Tensor, contribution: tf.Tensor, shared: list[tf.Tensor]) -> None:
    """Checks that examples and shared terms make up all of a loss that the user computed."""
    parts = tf.add_n([tf.reduce_sum(contribution), *(tf.cast(t, loss.dtype) for t in shared)])
    tf.debugging.assert_near(
        loss,
        tf.cast(parts, loss.dtype),
        rtol=1e-3,
        atol=1e-3,
        message=(
            "The loss that compute_loss returned is not linear in `sample_weight`, so part of it "
            "belongs to no example and would be missing from the gradient of stochastic layers. "
            "Multiply that part, per example, with the sample weights, or give it to `add_loss`."
        ),
    )


def check_losses(losses: Iterable[Any], y: Any, y_pred: Any) -> None:
    """Raises if a loss has no per-example values.

    Args:
        losses: the flattened `loss` argument of `compile`.
        y: targets.
        y_pred: outputs.

    Raises:
        ValueError: for a function that returns a scalar, and for a reduction that mixes examples.
    """
    losses = list(losses)
    for loss in losses:
        reduction = getattr(loss, "reduction", "sum_over_batch_size")
        if reduction in (None, "none", "mean_with_sample_weight"):
            raise ValueError(
                f"Loss {_name(loss)} has reduction={reduction!r}, which carries no per-example "
                "values. Use 'sum_over_batch_size' or 'sum'."
            )
    if keras.tree.is_nested(y_pred) or keras.tree.is_nested(y) or y is None:
        pairs = _pairs(losses, y, y_pred)
    else:
        pairs = [(loss, y, y_pred) for loss in losses]
    for loss, y_true, prediction in pairs:
        if isinstance(loss, (BlackBox, str)) or loss is None:
            continue  # checks itself; known to be per example; no loss
        function = loss.call if isinstance(loss, keras.losses.Loss) else loss
        value = function(tf.convert_to_tensor(y_true), tf.convert_to_tensor(prediction))
        if tf.convert_to_tensor(value).shape.rank == 0:
            raise ValueError(
                f"Loss {_name(loss)} returned a scalar, which carries no per-example values. "
                "Return one value per example, shape [batch] or [batch, ...], and leave the mean "
                "over the batch to Keras."
            )


def _pairs(losses: list[Any], y: Any, y_pred: Any) -> list[tuple[Any, Any, Any]]:
    flat_y, flat_pred = keras.tree.flatten(y), keras.tree.flatten(y_pred)
    if len(losses) == len(flat_y) == len(flat_pred):
        return list(zip(losses, flat_y, flat_pred, strict=True))
    return []  # one loss for many outputs, or outputs without loss: Keras pairs and checks them


def _name(loss: Any) -> str:
    return f"'{getattr(loss, 'name', None) or getattr(loss, '__name__', loss)}'"


def _weighted(sample_weight: Any, s: tf.Tensor) -> Any:
    """Multiplies the user's weights, of any structure and rank, with one factor per example."""
    if sample_weight is None:
        return s

    def times(weight: Any) -> tf.Tensor:
        weight = tf.cast(weight, s.dtype)
        return weight * tf.reshape(s, [-1] + [1] * (weight.shape.rank - 1))

    return keras.tree.map_structure(lambda w: s if w is None else times(w), sample_weight)
