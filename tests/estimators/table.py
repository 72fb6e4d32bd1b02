"""Every estimator, and how its expectation is taken: this table drives the proofs.

How the noise of one unit is integrated (`one_unit`):

- `QUADRATURE`: Gauss-Legendre nodes in the uniforms behind z, and behind z~ where it is drawn; for
  estimates that depend on relaxed samples.
- `OUTCOMES`: all outcomes of all samples, with their probabilities; for estimates that depend on
  hard samples alone.
- `REFLECTED`: the same for two samples of which one is made of the noise of the other, reflected:
  both jump within the nodes.
- `ANTITHETIC`: the pieces of the noise axis between the points where l or -l flips a unit.
- `PATTERNS`: all outcomes of K samples under the Dirichlet copula, whose probabilities are known.

The same names say how it is done on two layers of three units; `STATISTICS` is a confidence
interval instead. Estimators of continuous layers are integrated by Gauss-Hermite quadrature.
"""

from __future__ import annotations

from typing import NamedTuple

from tf_relax.estimators import (
    Arms,
    Concrete,
    Disarm,
    DisarmTree,
    Dlax,
    DoubleCV,
    Estimator,
    Exact,
    GumbelStraightThrough,
    Lax,
    LeaveOneOut,
    MeasureValued,
    MuProp,
    Nvil,
    Rebar,
    Reinforce,
    ReinMax,
    RejectionReparameterization,
    Relax,
    Reparameterization,
    Rodeo,
    SbCarms,
    StraightThrough,
    UnorderedSet,
    Vimco,
)

QUADRATURE, OUTCOMES, ANTITHETIC = "quadrature", "outcomes", "antithetic"
REFLECTED, PATTERNS, STATISTICS = "reflected", "patterns", "statistics"
PAIR = {"num_samples": 2, "coupling": "antithetic"}


class Row(NamedTuple):
    """One estimator.

    Attributes:
        estimator: the object.
        one_unit: how its noise is integrated on one Bernoulli unit, `None` if not defined there.
        two_layers: the same on two layers of Bernoulli units, `None` where it is biased or not
            defined, or where other rows of the same class do it.
        normal: whether it is defined for normal units.
        importance_samples: of the objective that it estimates the gradient of.
        compiled: whether it is also proved in a graph and under XLA.
        gamma: whether it is for gamma units made by acceptance and rejection.
        sticks: whether it is for categories by stick-breaking.
        counts: whether it is for counts.
        choices: whether it is for categories by Gumbel-argmax.
    """

    estimator: Estimator
    one_unit: str | None
    two_layers: str | None
    normal: bool = False
    importance_samples: int | None = None
    compiled: bool = True
    gamma: bool = False
    sticks: bool = False
    counts: bool = False
    choices: bool = False

    @property
    def samples(self) -> int:
        """Samples per site and step."""
        return max(self.importance_samples or 1, self.estimator.num_noises)

    def __repr__(self) -> str:
        k = self.importance_samples
        return f"{self.estimator}" + (f", importance_samples={k}" if k else "")


UNBIASED = [
    Row(Relax(), QUADRATURE, QUADRATURE),
    Row(Relax(num_samples=2), QUADRATURE, None, compiled=False),
    Row(Relax(num_conditional=2), QUADRATURE, QUADRATURE, compiled=False),
    Row(Relax(coupled=False), QUADRATURE, QUADRATURE, compiled=False),
    Row(Relax(coupled=False, num_conditional=2), QUADRATURE, None, compiled=False),
    Row(Relax(num_samples=2, num_conditional=2), QUADRATURE, STATISTICS),
    Row(Relax(**PAIR), REFLECTED, STATISTICS),
    Row(Relax(**PAIR, coupled=False), REFLECTED, None, compiled=False),
    Row(Relax(**PAIR, num_conditional=2), REFLECTED, None, compiled=False),
    Row(Relax(num_samples=3, coupling="antithetic"), None, STATISTICS),
    Row(Relax(num_conditional=2, coupling="antithetic"), QUADRATURE, STATISTICS),
    Row(Rebar(), QUADRATURE, QUADRATURE),
    Row(Rebar(coupled=False), QUADRATURE, QUADRATURE),
    Row(Rebar(num_samples=2), QUADRATURE, STATISTICS, compiled=False),
    Row(Rebar(num_conditional=2), QUADRATURE, None, compiled=False),
    Row(Rebar(**PAIR), REFLECTED, STATISTICS),
    Row(Rebar(num_conditional=3, coupling="antithetic"), None, STATISTICS),
    Row(Dlax(), QUADRATURE, QUADRATURE, normal=True),
    Row(Dlax(num_samples=2), QUADRATURE, None, normal=True, compiled=False),
    Row(Dlax(**PAIR), REFLECTED, None, normal=True, compiled=False),
    Row(Lax(), None, None, normal=True),
    Row(Lax(num_samples=2), None, None, normal=True),
    Row(Lax(**PAIR), None, None, normal=True),
    Row(Lax(num_samples=3, coupling="antithetic"), None, None, normal=True),
    Row(Reparameterization(), None, None, normal=True),
    Row(Reparameterization(), None, None, normal=True, importance_samples=2),
    Row(Reinforce(), OUTCOMES, OUTCOMES, normal=True),
    Row(Reinforce(baseline="moving_average"), OUTCOMES, OUTCOMES, normal=True),
    Row(Reinforce(baseline="learned"), OUTCOMES, OUTCOMES, normal=True, compiled=False),
    Row(Reinforce(), OUTCOMES, OUTCOMES, normal=True, importance_samples=2, compiled=False),
    Row(Nvil(), OUTCOMES, OUTCOMES, normal=True),
    Row(MuProp(), OUTCOMES, OUTCOMES),
    Row(LeaveOneOut(), OUTCOMES, OUTCOMES, normal=True),
    Row(LeaveOneOut(num_samples=3), OUTCOMES, OUTCOMES, normal=True, compiled=False),
    Row(DoubleCV(), OUTCOMES, OUTCOMES),
    Row(DoubleCV(num_samples=3), OUTCOMES, None, compiled=False),
    Row(Rodeo(), OUTCOMES, OUTCOMES),
    Row(Rodeo(num_samples=3), OUTCOMES, OUTCOMES, compiled=False),
    Row(Exact(), OUTCOMES, OUTCOMES),
    Row(Disarm(), ANTITHETIC, ANTITHETIC),
    Row(Arms(num_samples=2), PATTERNS, ANTITHETIC, compiled=False),
    Row(Arms(num_samples=3), PATTERNS, STATISTICS),
    Row(Arms(), PATTERNS, STATISTICS, compiled=False),
    Row(Vimco(), OUTCOMES, OUTCOMES, normal=True, importance_samples=2),
    Row(Vimco(), OUTCOMES, None, importance_samples=3, compiled=False),
    Row(RejectionReparameterization(), None, None, gamma=True),
    Row(DisarmTree(), None, None, sticks=True),
    Row(MeasureValued(), None, None, counts=True),
    Row(SbCarms(2), None, None, choices=True),
    Row(SbCarms(), None, None, choices=True),
    Row(UnorderedSet(2), None, None, choices=True),
    Row(UnorderedSet(3), None, None, choices=True),
]

BIASED = [
    Row(Concrete(), QUADRATURE, None),
    Row(StraightThrough(), OUTCOMES, None),
    Row(StraightThrough(backward="identity"), OUTCOMES, None),
    Row(StraightThrough(backward="relaxed", temperature=0.5), QUADRATURE, None),
    Row(GumbelStraightThrough(), QUADRATURE, None),
    Row(ReinMax(), OUTCOMES, None),
    Row(Nvil(normalize=True), OUTCOMES, None),
]

ROWS = [*UNBIASED, *BIASED]
BERNOULLI = [row for row in UNBIASED if row.one_unit]
NORMAL = [row for row in UNBIASED if row.normal]
GAMMA = [row for row in UNBIASED if row.gamma]
STICKS = [row for row in UNBIASED if row.sticks]
CHOICES = [row for row in UNBIASED if row.choices]
COUNTS = [row for row in UNBIASED if row.counts]


def on_two_layers(*ways: str) -> list[Row]:
    """Unbiased rows whose noise on two layers is integrated in one of these ways."""
    return [row for row in UNBIASED if row.two_layers in ways]
