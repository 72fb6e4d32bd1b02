"""Keras layers: thin shells over a relaxation plus a surrogate."""

from tf_relax.layers.conditional_prior import ConditionalPrior
from tf_relax.layers.relax_bernoulli import RelaxBernoulli
from tf_relax.layers.relax_normal import RelaxNormal
from tf_relax.layers.stochastic import Stochastic

__all__ = ["ConditionalPrior", "RelaxBernoulli", "RelaxNormal", "Stochastic"]
