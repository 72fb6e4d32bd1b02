"""Models and optimizers that train stochastic layers."""

from tf_relax._src.training import *
from tf_relax._src.training import __all__


def __dir__() -> list[str]:
    return __all__
