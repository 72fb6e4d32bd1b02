"""Per-example likelihoods and black-box objectives."""

from tf_relax._src.losses.bernoulli_nll import BernoulliNLL
from tf_relax._src.losses.black_box import BlackBox

__all__ = ["BernoulliNLL", "BlackBox"]
