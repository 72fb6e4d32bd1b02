r"""Control variates $c_\phi$: the objective at relaxed inputs, networks, their sum."""

from __future__ import annotations

import weakref
from typing import Any

import keras

from tf_relax._src.surrogates.keras_model import KerasModel
from tf_relax._src.surrogates.network import Network
from tf_relax._src.surrogates.objective import Objective
from tf_relax._src.surrogates.stein import Stein
from tf_relax._src.surrogates.surrogate import Surrogate
from tf_relax._src.surrogates.total import Sum
from tf_relax._src.surrogates.variables import is_surrogate_variable, mark_surrogate_variables

_BY_NAME: dict[str, type[Surrogate]] = {"objective": Objective, "network": Network, "sum": Sum}
_LAYER = "_tf_relax_layer"


def get(identifier: str | Surrogate | keras.Model, **kwargs: Any) -> Surrogate:
    """Returns a surrogate by name (`"objective"`, `"network"`, `"sum"`), from a model, or as it is.

    Raises:
        ValueError: for a name that is not known or an object that is neither a `Surrogate` nor a
            Keras model.

    Example:

    >>> get("network", units=(50,)).units
    (50,)
    """
    if isinstance(identifier, Surrogate):
        return identifier
    if isinstance(identifier, keras.Model):
        return KerasModel(identifier, **kwargs)
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier](**kwargs)
    raise ValueError(
        f"Unknown surrogate {identifier!r}. Known names are {sorted(_BY_NAME)}; or pass a "
        "tf_relax.surrogates.Surrogate or a Keras model of z."
    )


def checked(identifier: Any) -> str | Surrogate:
    """Returns what an estimator keeps: the name of a surrogate, or an object.

    Raises:
        ValueError: for a name that is not known and other objects.
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return identifier
    return get(identifier)


def serialize(surrogate: str | Surrogate | None) -> Any:
    """Returns what `checked` takes, without objects."""
    if surrogate is None or isinstance(surrogate, str):
        return surrogate
    return _unbuilt(keras.saving.serialize_keras_object(surrogate))


def for_layer(surrogate: str | Surrogate, layer: keras.Layer) -> Surrogate:
    """Returns a surrogate for a stochastic layer: a new one, or the object that was given.

    An object serves one layer, the first that it is used for. Further layers get copies.

    Raises:
        ValueError: for an object that is needed again and cannot be copied.
    """
    if isinstance(surrogate, str):
        return get(surrogate, dtype=layer.noise_dtype)
    owner = getattr(surrogate, _LAYER, None)
    if owner is None and not surrogate.built:
        setattr(surrogate, _LAYER, weakref.ref(layer))
        return surrogate
    if owner is not None and owner() is layer:
        return surrogate
    try:
        copy = type(surrogate).from_config(_unbuilt(surrogate.get_config()))
    except Exception as error:
        raise ValueError(
            f"{type(layer).__name__} '{layer.name}' needs a copy of the surrogate "
            f"{type(surrogate).__name__}, which serves another layer, and it cannot be made from "
            f"its config ({error}). Give it `get_config` and `from_config`, or each layer an "
            "estimator of its own: compile(estimator={name: Relax(surrogate=...)})."
        ) from error
    setattr(copy, _LAYER, weakref.ref(layer))
    return copy


def _unbuilt(config: Any) -> Any:
    """Returns a config without the shapes that the layers in it were built for."""
    if isinstance(config, dict):
        return {key: _unbuilt(value) for key, value in config.items() if key != "build_config"}
    return [_unbuilt(value) for value in config] if isinstance(config, list) else config


__all__ = [
    "KerasModel",
    "Network",
    "Objective",
    "Stein",
    "Sum",
    "Surrogate",
    "get",
    "is_surrogate_variable",
    "mark_surrogate_variables",
    "serialize",
]
