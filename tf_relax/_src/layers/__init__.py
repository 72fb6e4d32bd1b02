"""Keras layers: thin shells over a relaxation."""

from tf_relax._src.layers.birkhoff import GumbelSinkhorn, Rounding
from tf_relax._src.layers.conditional_prior import ConditionalPrior
from tf_relax._src.layers.discrete import Discrete
from tf_relax._src.layers.relax_bernoulli import RelaxBernoulli
from tf_relax._src.layers.relax_categorical import RelaxCategorical
from tf_relax._src.layers.relax_counts import RelaxGeometric, RelaxPoisson
from tf_relax._src.layers.relax_normal import RelaxNormal
from tf_relax._src.layers.relax_permutation import RelaxPermutation
from tf_relax._src.layers.relax_sample import RelaxSample
from tf_relax._src.layers.relax_top_k import RelaxTopK
from tf_relax._src.layers.relax_trees import RelaxArborescence, RelaxSpanningTree
from tf_relax._src.layers.stochastic import Stochastic

__all__ = [
    "ConditionalPrior",
    "Discrete",
    "GumbelSinkhorn",
    "RelaxArborescence",
    "RelaxBernoulli",
    "RelaxCategorical",
    "RelaxGeometric",
    "RelaxNormal",
    "RelaxPermutation",
    "RelaxPoisson",
    "RelaxSample",
    "RelaxSpanningTree",
    "RelaxTopK",
    "Rounding",
    "Stochastic",
]
