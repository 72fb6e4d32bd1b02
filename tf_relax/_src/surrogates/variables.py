"""Which variables belong to a surrogate: the optimizer routes by this mark."""

from __future__ import annotations

from collections.abc import Iterable

import keras

_MARK = "_tf_relax_surrogate"


def mark_surrogate_variables(variables: Iterable[keras.Variable]) -> None:
    """Marks variables as a surrogate's: trained on the variance, not on the objective."""
    for variable in variables:
        setattr(variable, _MARK, True)


def is_surrogate_variable(variable: keras.Variable) -> bool:
    """Returns whether the variable is trained on the variance of the gradient."""
    return getattr(variable, _MARK, False)
