"""Sequences from models of the next token: drawn, scored, compared, trained on rewards."""

from tf_relax._src.sequences import *
from tf_relax._src.sequences import __all__


def __dir__() -> list[str]:
    return __all__
