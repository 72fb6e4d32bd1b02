"""Per-example likelihoods and black-box objectives."""

from tf_relax.losses.bernoulli_nll import BernoulliNLL
from tf_relax.losses.black_box import BlackBox

__all__ = ["BernoulliNLL", "BlackBox"]


def __dir__() -> list[str]:
    return __all__
