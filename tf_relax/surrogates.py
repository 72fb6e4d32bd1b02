r"""Control variates $c_\phi$: the objective at relaxed inputs, networks, their sum."""

from tf_relax._src.surrogates import *
from tf_relax._src.surrogates import __all__


def __dir__() -> list[str]:
    return __all__
