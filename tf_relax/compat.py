"""The private Keras hooks that have no public counterpart, in one place; each has a test."""

from __future__ import annotations

from typing import Any

import keras


def functional_class() -> type[keras.Model]:
    """Returns the class of functional models, which `keras.Model(inputs, outputs)` turns into."""
    from keras.src.models.functional import Functional

    return Functional


def global_seed_state() -> keras.Variable:
    """Returns the state of the seed generator that serves every random op without a seed."""
    from keras.src.random.seed_generator import global_seed_generator

    return global_seed_generator().state


def position_of_call() -> int:
    """Returns how often this was called before in the call of the outermost layer or model.

    It is 0 outside of all calls. Within a model it tells calls apart in the same way every time.
    """
    from keras.src.backend.common import global_state

    context = global_state.get_global_attribute("current_call_ctx")
    if context is None:
        return 0
    position = getattr(context, "tf_relax_position", 0)
    context.tf_relax_position = position + 1
    return position


def keras_mask(tensor: Any) -> Any:
    """Returns the mask that Keras has attached to a tensor, or `None`."""
    return getattr(tensor, "_keras_mask", None)


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """Returns all layers inside a layer or model, however deeply nested."""
    return layer._flatten_layers(include_self=False)


def loss_tracker(model: keras.Model) -> Any:
    """Returns the metric that tracks the total loss of a compiled model."""
    return model._loss_tracker
