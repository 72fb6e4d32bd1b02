"""What is random: hard ``b = H(z)``, relaxed ``z ~ p(z|a)``, conditional ``z~ ~ p(z|b, a)``."""

from tf_relax._src.relaxations import *
from tf_relax._src.relaxations import __all__


def __dir__() -> list[str]:
    return __all__
