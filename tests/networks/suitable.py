"""Estimators that suit a random network, by what its layers and its loss have to offer."""

from __future__ import annotations

from tests.estimators.learned import objective_and_network
from tests.networks.drawn import Network
from tf_relax.estimators import (
    Arms,
    Disarm,
    DisarmTree,
    Dlax,
    DoubleCV,
    Estimator,
    LeaveOneOut,
    MeasureValued,
    MuProp,
    Nvil,
    PerLayer,
    Rebar,
    Reinforce,
    Relax,
    Rodeo,
)


def suitable(network: Network) -> list[Estimator]:
    """Returns unbiased estimators, made anew."""
    kinds = [site.kind for _, site in network.sites]
    masked = [site.mask is not None for _, site in network.sites]

    def all_are(trait: str) -> bool:
        return all(trait in kind.traits for kind in kinds)

    smooth = network.loss != "black_box"
    relaxable = all_are("conditional") and all(kind.indices is None for kind in kinds)
    found = [
        Reinforce(),
        Reinforce(baseline="moving_average"),
        Reinforce(baseline="learned"),
        Nvil(),
        LeaveOneOut(),
        LeaveOneOut(num_samples=3),
    ]
    if all_are("conditional"):
        found += [
            Relax(surrogate="network"),
            Relax(surrogate="network", coupled=False),
            Relax(surrogate="network", num_samples=2),
            Relax(surrogate="network", num_samples=2, coupling="antithetic"),
        ]
        found.append(PerLayer({f"part{k}": one_for(site.kind) for k, site in network.sites}))
    if relaxable and smooth:
        found += [
            Relax(surrogate=objective_and_network(3)),
            Relax(surrogate=objective_and_network(3), coupled=False),
            Rebar(),
            Dlax(surrogate=objective_and_network(3)),
        ]
        if all_are("mean") and not any(masked):
            found.append(MuProp())
    if all_are("binary"):
        found += [Disarm(), Arms(3)]
        if smooth:
            found += [DoubleCV(), Rodeo()]
    if all_are("sticks"):
        found.append(DisarmTree())
    if all_are("counts"):
        found.append(MeasureValued())
    return found


def one_for(kind) -> Estimator:
    """Returns an estimator for a layer among others."""
    if "binary" in kind.traits:
        return Disarm()
    return DisarmTree() if "sticks" in kind.traits else Relax(surrogate="network")
