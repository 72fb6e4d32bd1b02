"""What is random: hard ``b = H(z)``, relaxed ``z ~ p(z|a)``, conditional ``z~ ~ p(z|b, a)``."""

from tf_relax.relaxations.arborescence import Arborescence
from tf_relax.relaxations.bernoulli import Bernoulli
from tf_relax.relaxations.birkhoff import GumbelMatching, NearestPermutation, assignment, sinkhorn
from tf_relax.relaxations.blocks import Blocks
from tf_relax.relaxations.capabilities import (
    BinaryUnits,
    Conditional,
    Continuous,
    Discrete,
    Enumerable,
    Items,
    KnownMean,
    MeanOfLogits,
    Relaxed,
)
from tf_relax.relaxations.categorical import Categorical
from tf_relax.relaxations.counts import Counts, Geometric, Poisson
from tf_relax.relaxations.distribution import Distribution
from tf_relax.relaxations.matching import SequentialMatching
from tf_relax.relaxations.normal import Normal
from tf_relax.relaxations.plackett_luce import PlackettLuce
from tf_relax.relaxations.race import Race, Trace
from tf_relax.relaxations.rejection import Rejection
from tf_relax.relaxations.relaxation import Draw, Relaxation
from tf_relax.relaxations.spanning_tree import SpanningTree, complete_graph
from tf_relax.relaxations.stick_breaking import StickBreakingPermutation
from tf_relax.relaxations.sticks import Sticks, stick_logits
from tf_relax.relaxations.top_k import TopK

__all__ = [
    "Arborescence",
    "Bernoulli",
    "BinaryUnits",
    "Blocks",
    "Categorical",
    "Conditional",
    "Continuous",
    "Counts",
    "Discrete",
    "Distribution",
    "Draw",
    "Enumerable",
    "Geometric",
    "GumbelMatching",
    "Items",
    "KnownMean",
    "MeanOfLogits",
    "NearestPermutation",
    "Normal",
    "PlackettLuce",
    "Poisson",
    "Race",
    "Rejection",
    "Relaxation",
    "Relaxed",
    "SequentialMatching",
    "SpanningTree",
    "StickBreakingPermutation",
    "Sticks",
    "TopK",
    "Trace",
    "assignment",
    "complete_graph",
    "sinkhorn",
    "stick_logits",
]


def __dir__() -> list[str]:
    return __all__
