"""A trained model as a plain Keras model: modes or means in the place of samples."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tf_relax._src.compat import functional_class, sublayers
from tf_relax._src.layers import (
    ConditionalPrior,
    RelaxBernoulli,
    RelaxCategorical,
    RelaxGeometric,
    RelaxNormal,
    RelaxPermutation,
    RelaxPoisson,
    RelaxTopK,
    Stochastic,
)
from tf_relax._src.relaxations.impossible import IMPOSSIBLE

_INFERENCE = ("mode", "mean")


def for_inference(model: keras.Model, inference: str = "mode") -> keras.Model:
    """Returns a plain Keras model that answers with modes, or means, instead of samples.

    Nothing of this package is left in it: no estimator, no surrogate, no prior. It saves to a
    `.keras` file that an environment with Keras alone loads, and exports to ONNX and LiteRT, whose
    operations it keeps to. Its weights are copies.

    Args:
        model: a functional or sequential model, with others nested in it.
        inference: `"mode"`, the most probable sample, or `"mean"`, for layers whose mean is known
            (units, one-hot categories, counts, normal variables).

    Returns:
        A functional `keras.Model` of the same inputs and outputs.

    Raises:
        ValueError: for subclassed models, for a layer whose mode or mean Keras's own operations
            cannot express, and for another `inference`.

    Example:

    >>> import keras, numpy as np, tf_relax
    >>> layers = [keras.layers.Dense(4), tf_relax.layers.RelaxBernoulli()]
    >>> model = tf_relax.RelaxModel([keras.Input((8,)), *layers])
    >>> plain = tf_relax.for_inference(model)
    >>> plain(np.ones((2, 8))).shape
    TensorShape([2, 4])
    """
    if inference not in _INFERENCE:
        raise ValueError(
            f"for_inference: `inference` must be one of {_INFERENCE}. Received: {inference!r}. For "
            "samples use model.export(path), whose endpoints `serve` and `seeded` draw them."
        )
    return _plain(model, inference, {})


def _plain(model: keras.Model, inference: str, made: dict[int, keras.layers.Layer]) -> keras.Model:
    if not isinstance(model, (functional_class(), keras.Sequential)):
        raise ValueError(
            f"for_inference: '{model.name}' is a subclassed {type(model).__name__}, whose Python "
            "code Keras cannot take apart. Build it functionally, or use model.export(path)."
        )

    def copied(layer: Any) -> Any:
        if isinstance(layer, (Stochastic, ConditionalPrior)):
            return layer  # what takes its place has no weights
        if id(layer) not in made:
            if isinstance(layer, keras.Model) and _is_stochastic(layer):
                made[id(layer)] = _plain(layer, inference, made)
            else:
                clone = type(layer).from_config(layer.get_config())
                if isinstance(layer, keras.layers.Layer) and layer.weights:
                    clone.build_from_config(layer.get_build_config())
                    clone.set_weights(layer.get_weights())
                made[id(layer)] = clone
        return made[id(layer)]

    def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, Stochastic):
            return _answer(layer, inference, args[0], kwargs.get("mask"))
        if isinstance(layer, ConditionalPrior):
            return args[0]  # the samples
        return layer(*args, **kwargs)

    # `clone_model` keeps the class of what it clones, which is to be Keras's own.
    sequential = isinstance(model, keras.Sequential)
    inputs, outputs = (model.inputs, model.outputs) if sequential else (model.input, model.output)
    plain = keras.Model(*map(_single, (inputs, outputs)), name=model.name)
    return keras.models.clone_model(plain, clone_function=copied, call_function=called)


def _single(tensors: Any) -> Any:
    return tensors[0] if isinstance(tensors, list) and len(tensors) == 1 else tensors


def _is_stochastic(model: keras.Model) -> bool:
    return any(isinstance(layer, Stochastic) for layer in sublayers(model))


def _answer(layer: Stochastic, inference: str, logits: Any, mask: Any) -> Any:
    """Returns the mode or the mean of a layer's samples in operations of Keras."""
    logits = ops.cast(logits, layer.noise_dtype)
    if mask is not None:
        if len(mask.shape) != len(logits.shape):
            raise _inexpressible(
                layer, f"its {inference} under a mask of fewer axes than its logits"
            )
        logits = ops.where(ops.cast(mask, "bool"), logits, IMPOSSIBLE)
    answer = _mode(layer, logits) if inference == "mode" else _mean(layer, logits)
    if answer is None:
        raise _inexpressible(layer, f"its {inference}")
    return ops.cast(answer, layer.compute_dtype if layer.relaxable else "int32")


def _mode(layer: Stochastic, logits: Any) -> Any:
    if isinstance(layer, RelaxBernoulli):
        return logits > 0
    if isinstance(layer, RelaxCategorical) and layer.method == "gumbel":
        # (`ops.argmax` tells -0 from 0 by bits, which LiteRT has no operation for.)
        index = ops.top_k(logits, 1)[1][..., 0]
        return index if not layer.relaxable else ops.one_hot(index, logits.shape[-1])
    if isinstance(layer, RelaxTopK) and layer.get_config().get("mask") is None:
        chosen = ops.top_k(logits, layer.k)[1]
        if not layer.relaxable:
            return chosen
        one_hot = ops.one_hot(chosen, logits.shape[-1])
        return ops.sum(one_hot, axis=-2) if layer.output_kind == "set" else one_hot
    if isinstance(layer, RelaxPermutation) and layer.method == "plackett_luce":
        order = ops.argsort(-logits, axis=-1)
        return order if not layer.relaxable else ops.one_hot(order, logits.shape[-1])
    if isinstance(layer, RelaxPoisson):
        return ops.floor(ops.exp(logits))
    if isinstance(layer, RelaxGeometric):
        return ops.zeros_like(logits)
    if isinstance(layer, RelaxNormal):
        return ops.split(logits, 2, axis=-1)[0]
    return None


def _mean(layer: Stochastic, logits: Any) -> Any:
    if not layer.relaxable:
        return None
    if isinstance(layer, RelaxBernoulli):
        return ops.sigmoid(logits)
    if isinstance(layer, RelaxCategorical) and layer.method == "gumbel":
        return ops.softmax(logits, axis=-1)
    if isinstance(layer, RelaxPoisson):
        return ops.exp(logits)
    if isinstance(layer, RelaxGeometric):
        return ops.exp(-logits)  # (1 - q) / q
    if isinstance(layer, RelaxNormal):
        return ops.split(logits, 2, axis=-1)[0]
    return None


def _inexpressible(layer: Stochastic, what: str) -> ValueError:
    return ValueError(
        f"for_inference: Keras has no operations of its own for {type(layer).__name__} "
        f"'{layer.name}', {what}. Use model.export(path), a SavedModel with the endpoint `mode`, "
        "or inference='mode' where the mean is unknown."
    )
