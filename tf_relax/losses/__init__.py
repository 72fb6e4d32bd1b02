"""Per-example likelihoods and black-box objectives."""

from tf_relax.losses.bernoulli_nll import BernoulliNLL
from tf_relax.losses.black_box import BlackBox
from tf_relax.losses.relaxable import Relaxable

__all__ = ["BernoulliNLL", "BlackBox", "Relaxable"]


def __dir__() -> list[str]:
    return __all__
