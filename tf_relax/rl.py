"""Policy gradients on Gymnasium environments: REINFORCE, A2C, LAX and RELAX."""

from tf_relax._src.rl import *
from tf_relax._src.rl import __all__


def __dir__() -> list[str]:
    return __all__
