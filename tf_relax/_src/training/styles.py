"""Functional and sequential construction of a Model subclass, without changing the class."""

from __future__ import annotations

from typing import Any

import keras

from tf_relax._src.compat import functional_class


def is_functional(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Returns whether constructor arguments are those of a functional model."""
    names = {"inputs", "outputs"}
    return len(args) >= 2 or (len(args) == 1 and "outputs" in kwargs) or names <= kwargs.keys()


def is_sequential(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Returns whether constructor arguments are those of `keras.Sequential`: a list of layers."""
    layers = args[0] if len(args) == 1 else kwargs.get("layers")
    return isinstance(layers, (list, tuple)) and "outputs" not in kwargs


def variant(cls: type[keras.Model], base: type[keras.Model]) -> type[keras.Model]:
    """Returns a subclass of `cls` that is built like `base`.

    `keras.Model` turns a subclass that is built functionally into a functional one by rewriting its
    `__bases__`, after which every subclassed model of the same class fails. A class of its own for
    each style leaves `cls` as it is. It keeps the name and module of `cls`: saved models refer to
    those, and loading passes through `cls` again.
    """
    # Kept with the class: a class made inside a function goes when nobody uses it any more.
    variants = cls.__dict__.get("_variants", {})
    if base in variants:
        return variants[base]
    namespace = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "_style": base,
    }
    made = type(cls.__name__, (cls, base), namespace)
    package, _, name = keras.saving.get_registered_name(cls).rpartition(">")
    if package:
        # The variant saves under the registered name of cls, which has to keep meaning cls.
        for each in (made, cls):
            keras.saving.register_keras_serializable(package, name)(each)
    cls._variants = {**variants, base: made}
    return made


def style_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> type[keras.Model] | None:
    """Returns the base class that constructor arguments ask for, `None` for subclassed models."""
    if is_functional(args, kwargs):
        return functional_class()
    if is_sequential(args, kwargs):
        return keras.Sequential
    return None
