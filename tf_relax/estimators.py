"""How the gradient of an expectation over random samples is estimated."""

from tf_relax._src.estimators import *
from tf_relax._src.estimators import __all__


def __dir__() -> list[str]:
    return __all__
