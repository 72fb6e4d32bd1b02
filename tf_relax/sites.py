"""Record and replay: how stochastic layers and training meet."""

from tf_relax._src.sites import *
from tf_relax._src.sites import __all__


def __dir__() -> list[str]:
    return __all__
