"""How the gradient of an expectation over discrete samples is estimated."""

from __future__ import annotations

from typing import Any

import keras

from tf_relax.estimators.control_variate import Rebar, Relax
from tf_relax.estimators.estimator import Estimate, Estimator
from tf_relax.estimators.pathwise import Concrete, StraightThrough
from tf_relax.estimators.score_function import Reinforce

_BY_NAME: dict[str, type[Estimator]] = {
    "concrete": Concrete,
    "rebar": Rebar,
    "reinforce": Reinforce,
    "relax": Relax,
    "straight_through": StraightThrough,
}


def names() -> list[str]:
    """Returns the names that `get` understands."""
    return sorted(_BY_NAME)


def serialize(estimator: Estimator) -> dict[str, Any]:
    """Returns the configuration of an estimator, as Keras does for optimizers and losses."""
    return keras.saving.serialize_keras_object(estimator)


def deserialize(config: dict[str, Any], custom_objects: Any = None) -> Estimator:
    """Returns the estimator of a configuration made by `serialize`."""
    return keras.saving.deserialize_keras_object(config, custom_objects=custom_objects)


def get(identifier: Any) -> Estimator:
    """Returns an estimator from its name, its configuration, or as it is.

    Raises:
        ValueError: for a name that is not known; the message lists the known ones.

    Example:

    >>> get("relax")
    Relax(coupled=True)
    """
    if isinstance(identifier, Estimator):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str) and identifier.lower() in _BY_NAME:
        return _BY_NAME[identifier.lower()]()
    raise ValueError(
        f"Unknown estimator {identifier!r}. Known names are {names()}; or pass an object such as "
        "tf_relax.estimators.Relax(coupled=False)."
    )


__all__ = [
    "Concrete",
    "Estimate",
    "Estimator",
    "Rebar",
    "Reinforce",
    "Relax",
    "StraightThrough",
    "deserialize",
    "get",
    "names",
    "serialize",
]
