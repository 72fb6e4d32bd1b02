"""How the gradient of an expectation over random samples is estimated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from tf_relax._src.estimators.arms import Arms
from tf_relax._src.estimators.auto import Auto
from tf_relax._src.estimators.control_variate import Rebar, Relax
from tf_relax._src.estimators.disarm import Disarm
from tf_relax._src.estimators.disarm_tree import DisarmTree
from tf_relax._src.estimators.double_cv import DoubleCV
from tf_relax._src.estimators.estimator import Estimate, Estimator, Pass, Passes
from tf_relax._src.estimators.exact import Exact
from tf_relax._src.estimators.lax import Dlax, Lax
from tf_relax._src.estimators.leave_one_out import LeaveOneOut
from tf_relax._src.estimators.measure_valued import MeasureValued
from tf_relax._src.estimators.muprop import MuProp
from tf_relax._src.estimators.nvil import Nvil
from tf_relax._src.estimators.pathwise import (
    Concrete,
    GumbelStraightThrough,
    ReinMax,
    Reparameterization,
    StraightThrough,
)
from tf_relax._src.estimators.per_layer import PerLayer
from tf_relax._src.estimators.rejection import RejectionReparameterization
from tf_relax._src.estimators.rodeo import Rodeo
from tf_relax._src.estimators.sb_carms import SbCarms
from tf_relax._src.estimators.score_function import Reinforce
from tf_relax._src.estimators.state import State
from tf_relax._src.estimators.unordered_set import UnorderedSet
from tf_relax._src.estimators.vimco import Vimco

_BY_NAME: dict[str, type[Estimator]] = {
    "arms": Arms,
    "concrete": Concrete,
    "disarm": Disarm,
    "disarm_tree": DisarmTree,
    "dlax": Dlax,
    "double_cv": DoubleCV,
    "exact": Exact,
    "gumbel_straight_through": GumbelStraightThrough,
    "lax": Lax,
    "leave_one_out": LeaveOneOut,
    "measure_valued": MeasureValued,
    "muprop": MuProp,
    "nvil": Nvil,
    "rebar": Rebar,
    "reinforce": Reinforce,
    "reinmax": ReinMax,
    "relax": Relax,
    "rejection": RejectionReparameterization,
    "reparameterization": Reparameterization,
    "rodeo": Rodeo,
    "sb_carms": SbCarms,
    "straight_through": StraightThrough,
    "unordered_set": UnorderedSet,
    "vimco": Vimco,
}


def names() -> list[str]:
    """Returns the names of all estimators. `get` knows `"auto"` as well, which chooses one."""
    return sorted(_BY_NAME)


def serialize(estimator: Estimator) -> dict[str, Any]:
    """Returns the configuration of an estimator, as Keras does for optimizers and losses."""
    return keras.saving.serialize_keras_object(estimator)


def deserialize(config: dict[str, Any], custom_objects: Any = None) -> Estimator:
    """Returns the estimator of a configuration made by `serialize`."""
    return keras.saving.deserialize_keras_object(config, custom_objects=custom_objects)


def get(identifier: Any) -> Estimator:
    """Returns an estimator from its name, its configuration, a mapping from layers, or as it is.

    Raises:
        ValueError: for a name that is not known; the message lists the known ones.

    Example:

    >>> get("disarm")
    Disarm()
    """
    if isinstance(identifier, Estimator):
        return identifier
    if isinstance(identifier, Mapping) and "class_name" in identifier:
        return deserialize(dict(identifier))
    if isinstance(identifier, Mapping):
        return PerLayer({name: get(each) for name, each in identifier.items()})
    if isinstance(identifier, str) and identifier.lower() == "auto":
        return Auto()
    if isinstance(identifier, str) and identifier.lower() in _BY_NAME:
        return _BY_NAME[identifier.lower()]()
    raise ValueError(
        f"Unknown estimator {identifier!r}. Known names are {names()}, and 'auto'; or pass an "
        "object such as tf_relax.estimators.Relax(coupled=False)."
    )


__all__ = [
    "Arms",
    "Auto",
    "Concrete",
    "Disarm",
    "DisarmTree",
    "Dlax",
    "DoubleCV",
    "Estimate",
    "Estimator",
    "Exact",
    "GumbelStraightThrough",
    "Lax",
    "LeaveOneOut",
    "MeasureValued",
    "MuProp",
    "Nvil",
    "Pass",
    "Passes",
    "PerLayer",
    "Rebar",
    "ReinMax",
    "Reinforce",
    "RejectionReparameterization",
    "Relax",
    "Reparameterization",
    "Rodeo",
    "SbCarms",
    "State",
    "StraightThrough",
    "UnorderedSet",
    "Vimco",
    "deserialize",
    "get",
    "names",
    "serialize",
]
