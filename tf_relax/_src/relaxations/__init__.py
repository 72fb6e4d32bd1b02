r"""What is drawn: hard $b = H(z)$, relaxed $z \sim p(z \mid a)$, $\tilde z \sim p(z \mid b, a)$."""

from tf_relax._src.relaxations.arborescence import Arborescence
from tf_relax._src.relaxations.bernoulli import Bernoulli
from tf_relax._src.relaxations.birkhoff import (
    GumbelMatching,
    NearestPermutation,
    assignment,
    sinkhorn,
)
from tf_relax._src.relaxations.blocks import Blocks
from tf_relax._src.relaxations.capabilities import (
    Antithetic,
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
from tf_relax._src.relaxations.categorical import Categorical
from tf_relax._src.relaxations.counts import Counts, Geometric, Poisson
from tf_relax._src.relaxations.distribution import Distribution
from tf_relax._src.relaxations.law import GUMBEL, LOGISTIC, NORMAL, Law
from tf_relax._src.relaxations.matching import SequentialMatching
from tf_relax._src.relaxations.normal import Normal
from tf_relax._src.relaxations.plackett_luce import PlackettLuce
from tf_relax._src.relaxations.race import Race, Trace
from tf_relax._src.relaxations.rejection import Rejection
from tf_relax._src.relaxations.relaxation import Draw, Relaxation
from tf_relax._src.relaxations.spanning_tree import SpanningTree, complete_graph
from tf_relax._src.relaxations.stick_breaking import StickBreakingPermutation
from tf_relax._src.relaxations.sticks import Sticks, stick_logits
from tf_relax._src.relaxations.top_k import TopK

__all__ = [
    "GUMBEL",
    "LOGISTIC",
    "NORMAL",
    "Antithetic",
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
    "Law",
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
