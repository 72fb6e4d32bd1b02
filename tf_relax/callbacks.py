"""Callbacks for `fit`."""

from tf_relax._src.callbacks import *
from tf_relax._src.callbacks import __all__


def __dir__() -> list[str]:
    return __all__
