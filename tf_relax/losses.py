"""Per-example likelihoods and black-box objectives."""

from tf_relax._src.losses import *
from tf_relax._src.losses import __all__


def __dir__() -> list[str]:
    return __all__
