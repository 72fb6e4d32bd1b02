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


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """Returns all layers inside a layer or model, however deeply nested."""
    return layer._flatten_layers(include_self=False)


def loss_tracker(model: keras.Model) -> Any:
    """Returns the metric that tracks the total loss of a compiled model."""
    return model._loss_tracker
