"""Keras layers: thin shells over a relaxation."""

from tf_relax._src.layers import *
from tf_relax._src.layers import __all__


def __dir__() -> list[str]:
    return __all__
