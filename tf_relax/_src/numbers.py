"""Arguments that have to be numbers."""

from __future__ import annotations

import math
import numbers
from typing import Any


def is_finite_number(x: Any) -> bool:
    """Returns whether something is a real number, and neither NaN nor infinite.

    Example:

    >>> is_finite_number(0.5), is_finite_number("0.5"), is_finite_number(float("inf"))
    (True, False, False)
    """
    return isinstance(x, numbers.Real) and math.isfinite(x)
