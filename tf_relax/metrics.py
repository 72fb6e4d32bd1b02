"""Bounds on the likelihood of models with priors."""

from tf_relax._src.metrics import *
from tf_relax._src.metrics import __all__


def __dir__() -> list[str]:
    return __all__
