"""Control variates c_phi: the objective at relaxed inputs, networks, their sum."""

from __future__ import annotations

from typing import Any

import keras

from tf_relax.surrogates.keras_model import KerasModel
from tf_relax.surrogates.network import Network
from tf_relax.surrogates.objective import Objective
from tf_relax.surrogates.stein import Stein
from tf_relax.surrogates.surrogate import Surrogate
from tf_relax.surrogates.total import Sum
from tf_relax.surrogates.variables import is_surrogate_variable, mark_surrogate_variables

_BY_NAME = {"objective": Objective, "network": Network, "sum": Sum}


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
]
