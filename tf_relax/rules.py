"""The equations of the estimators, as functions of tensors: models and policies share them."""

from tf_relax._src.rules import *
from tf_relax._src.rules import __all__


def __dir__() -> list[str]:
    return __all__
