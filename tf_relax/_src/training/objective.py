"""The compiled loss as one value per example."""

from __future__ import annotations

import inspect
import types
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.losses import BlackBox
from tf_relax._src.relaxations.event import sum_event
from tf_relax._src.training.batch import first_tensor
from tf_relax._src.training.replicas import Replicas


class LossParts(NamedTuple):
    """The objective of one pass.

    Attributes:
        loss: scalar, what Keras calls the loss: the mean over examples plus regularizers; of the
            examples of this replica, where there are several.
        f: per-example values, `[batch]`, whose mean is the part of the loss that examples own.
        shared: scalar `add_loss` terms and regularizers, which no example owns.
    """

    loss: tf.Tensor
    f: tf.Tensor
    shared: list[tf.Tensor]


def per_example_objective(
    model: keras.Model,
    x: Any,
    y: Any,
    y_pred: Any,
    sample_weight: Any,
    training: bool = True,
    replicas: Replicas | None = None,
) -> LossParts:
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
        replicas: that share the batch of the step; found out if not given.

    Raises:
        ValueError: if a loss has no per-example values, or if an `add_loss` term is neither a
            scalar nor one value per example.
    """
    example = first_tensor(x)
    batch = tf.shape(example)[0]
    replicas = Replicas(batch) if replicas is None else replicas
    additional = list(model.losses)
    ranks = loss_ranks(model, y, y_pred)
    overridden = type(model).compute_loss is not keras.Model.compute_loss
    if y is None and ranks and not overridden:
        raise ValueError(
            f"RelaxModel '{model.name}' is compiled with a loss, and was given no targets to "
            "compare its outputs with. Pass them: fit(x, y), or fit(x, x) for an autoencoder."
        )
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        s = tf.ones([batch], keras.config.floatx())
        tape.watch(s)
        loss = model.compute_loss(
            x=x,
            y=y,
            y_pred=y_pred,
            sample_weight=_weights(s, ranks, sample_weight, model, y_pred),
            **({"training": training} if _takes_training(model.compute_loss) else {}),
        )
    contribution = tape.gradient(loss, s)
    if contribution is None:
        if ranks or overridden:
            raise ValueError(
                f"The loss of model '{model.name}' carries no per-example values, as it does not "
                "depend on the sample weights: pass `sample_weight` on in `compute_loss`."
            )
        contribution = tf.zeros_like(s)
    own, shared = tf.zeros_like(s), []
    for term in additional:
        if term.shape.rank == 0:
            shared.append(term)
            continue
        if term.shape[0] is not None and term.shape[0] != example.shape[0]:
            raise ValueError(
                f"Model '{model.name}' has an `add_loss` term of shape {tuple(term.shape)} for a "
                f"batch of {example.shape[0]} examples. `add_loss` takes scalars, or one value per "
                "example of the batch."
            )
        # Keras adds up what add_loss is given, so each example contributes its own sum.
        own += tf.cast(sum_event(term), own.dtype)
    if overridden:
        added = [tf.reduce_sum(x) / replicas.count for x in [own, *shared]]
        one = _checked(loss, [tf.reduce_sum(contribution), *added])
        loss, contribution, own = loss * one, contribution * one, own * one
    # Keras adds up the losses of replicas, and to that end divides means and what add_loss is given
    # by their number.
    sums = any(getattr(each, "reduction", None) == "sum" for each in keras.tree.flatten(model.loss))
    examples = replicas.global_batch if sums else replicas.count * batch
    f = contribution * tf.cast(examples, s.dtype) + own * tf.cast(batch, s.dtype)
    if replicas.count > 1:
        loss = tf.add_n([tf.reduce_mean(f), *(tf.cast(term, f.dtype) for term in shared)])
    return LossParts(loss, f, shared)


def _takes_training(compute_loss: Any) -> bool:
    # Keras 3.3 added the argument, and goes on calling overrides without it.
    parameters = inspect.signature(compute_loss).parameters.values()
    return any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)


def loss_ranks(model: keras.Model, y: Any, y_pred: Any) -> list[int | None]:
    """Returns the rank of the values of the loss of every output, `None` where it has no loss.

    One weight per example has to be reshaped to that rank, `[batch, 1, ...]`: Keras broadcasts
    weights from the right.

    Raises:
        ValueError: for a loss that returns a scalar, and for a reduction that mixes examples.
    """
    if model.loss is None:
        return []
    # Finding a rank evaluates the loss once; compiling with another loss forgets it. Kept with the
    # model, as a loss may refer to its model, and in what Keras neither tracks nor saves.
    known = getattr(model, "_known_ranks", None)
    if known is None or known.loss is not model.loss:
        outputs = zip(*_by_output(model, y, y_pred), strict=True)
        ranks = [None if loss is None else _rank(loss, *pair) for loss, *pair in outputs]
        known = model._known_ranks = types.SimpleNamespace(loss=model.loss, ranks=ranks)
    return known.ranks


def _by_output(model: keras.Model, y: Any, y_pred: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Pairs losses, targets and outputs as Keras does; a target it cannot find is `None`."""
    predictions = keras.tree.flatten(y_pred)
    count = len(predictions)
    names = getattr(model, "output_names", None)
    keys = sorted(y_pred) if isinstance(y_pred, dict) else names

    def spread(values: Any, single: bool) -> list[Any]:
        if isinstance(values, dict) and keys is not None and len(keys) == count:
            return [values.get(key) for key in keys]
        if isinstance(values, (list, tuple)):
            values = list(values)
            return values * count if single and len(values) == 1 else values
        return [values] * count if single or count == 1 else [None] * count

    losses, targets = spread(model.loss, single=True), spread(y, single=False)
    if len(losses) != count or any(keras.tree.is_nested(loss) for loss in losses):
        losses = [loss for loss in keras.tree.flatten(model.loss) if loss is not None]
        losses = losses if len(losses) == count else losses[:1] * count
    return losses, targets if len(targets) == count else [None] * count, predictions


def _rank(loss: Any, target: Any, prediction: tf.Tensor) -> int:
    if isinstance(loss, BlackBox):
        return 1
    loss = keras.losses.get(loss)
    name = str(getattr(loss, "name", None) or getattr(loss, "__name__", loss))
    if getattr(loss, "reduction", "sum") in (None, "none", "mean_with_sample_weight"):
        raise ValueError(
            f"Loss '{name}' has reduction={loss.reduction!r}, which carries no per-example values. "
            "Use 'sum_over_batch_size' or 'sum'."
        )
    if target is None or keras.tree.is_nested(target):
        return prediction.shape.rank - 1
    function = loss.call if isinstance(loss, keras.losses.Loss) else loss
    floatx = keras.config.floatx()
    target, prediction = (tf.cast(tensor, floatx) for tensor in (target, prediction))
    if target.shape.rank == prediction.shape.rank - 1 and prediction.shape[-1] == 1:
        target = target[..., tf.newaxis]  # as Keras does before it calls a function
    try:
        values = tf.convert_to_tensor(function(target, prediction))
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        if target.shape.is_compatible_with(prediction.shape):
            raise
        raise ValueError(
            f"Loss '{name}' cannot compare targets of shape {target.shape} with outputs of shape "
            f"{prediction.shape}: give the last layer of the model the shape of the targets, or "
            "choose another loss."
        ) from error
    _check_per_example(values, prediction, loss, name)
    return values.shape.rank


def _check_per_example(values: tf.Tensor, prediction: tf.Tensor, loss: Any, name: str) -> None:
    """Raises a ValueError for losses that make one number of several examples."""
    rank = prediction.shape.rank
    sizes = {prediction.shape[0], values.shape[0]} if values.shape.rank else {None}
    axis = getattr(loss, "axis", None)  # what those losses of Keras that have one sum over
    mixes = axis is not None and 0 in np.mod(np.ravel(axis), rank)
    if values.shape.rank and not mixes and (None in sizes or len(sizes) == 1):
        return
    returned = f"the shape {tuple(values.shape)}" if values.shape.rank else "a scalar"
    remedy = (
        "Return one value per example, shape [batch] or [batch, ...], and leave the mean over the "
        "batch to Keras."
    )
    function = getattr(loss, "fn", loss)
    camel = "".join(word.capitalize() for word in getattr(function, "__name__", "").split("_"))
    if rank == 1:
        remedy = "It averages over the last dimension: let the model return shape [batch, 1]."
    elif hasattr(keras.losses, camel) and "axis" in inspect.signature(function).parameters:
        axes = tuple(range(1, rank))  # Dice and Tversky take all dimensions by default
        remedy = f"Let it leave out the first dimension: keras.losses.{camel}(axis={axes})."
    raise ValueError(
        f"Loss '{name}' returned {returned}, which carries no per-example values. {remedy}"
    )


def mixes_examples(loss: Any) -> bool:
    """Returns whether a loss of Keras compares the examples of a batch with one another.

    Args:
        loss: what a model is compiled with.
    """
    losses = [keras.losses.get(loss) for loss in keras.tree.flatten(loss)]
    functions = [getattr(loss, "fn", loss) for loss in losses]
    return any(getattr(function, "__name__", None) == "circle" for function in functions)


def _weights(
    s: tf.Tensor, ranks: list[int | None], sample_weight: Any, model: keras.Model, y_pred: Any
) -> Any:
    """Returns sample weights that carry one factor per example next to the user's own."""

    def expand(rank: int) -> tf.Tensor:
        return tf.reshape(s, [-1] + [1] * (rank - 1))

    def times(weight: Any) -> tf.Tensor:
        weight = tf.cast(weight, s.dtype)
        return weight * expand(weight.shape.rank)

    if sample_weight is not None and not keras.tree.is_nested(sample_weight):
        return times(sample_weight)
    own = [expand(1 if rank is None else rank) for rank in ranks]
    if sample_weight is None:
        distinct = {rank for rank in ranks if rank is not None}
        if len(distinct) <= 1:
            return expand(distinct.pop()) if distinct else s
        if isinstance(model.loss, dict) and not isinstance(y_pred, dict):
            return dict(zip(model.output_names, own, strict=True))
        return keras.tree.pack_sequence_as(y_pred, own)
    if isinstance(sample_weight, dict):
        keys = sorted(y_pred) if isinstance(y_pred, dict) else list(model.output_names)
        given = [sample_weight.get(key) for key in keys]
        return {
            key: factor if weight is None else times(weight)
            for key, weight, factor in zip(keys, given, own, strict=True)
        }
    return type(sample_weight)(
        factor if weight is None else times(weight)
        for weight, factor in zip(sample_weight, own, strict=True)
    )


def _checked(loss: tf.Tensor, parts: list[tf.Tensor]) -> tf.Tensor:
    """Checks that examples and shared terms make up all of a loss that the user computed.

    Returns:
        A factor of 1 that exists only if they do: with it in a loss, no gradient comes before the
        check. (XLA has no assertions and passes by.)
    """
    check = tf.debugging.assert_near(
        loss,
        tf.add_n([tf.cast(part, loss.dtype) for part in parts]),
        rtol=1e-3,
        atol=1e-3,
        message=(
            "The loss that compute_loss returned is not linear in `sample_weight`, so part of it "
            "belongs to no example and would be missing from the gradient of stochastic layers. "
            "Multiply that part, per example, with the sample weights, or give it to `add_loss`."
        ),
    )
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(tf.ones((), loss.dtype))
