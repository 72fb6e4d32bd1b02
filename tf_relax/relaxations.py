r"""What is drawn: hard $b = H(z)$, relaxed $z \sim p(z \mid a)$, $\tilde z \sim p(z \mid b, a)$."""

from tf_relax._src.relaxations import *
from tf_relax._src.relaxations import __all__


def __dir__() -> list[str]:
    return __all__
