"""A random network held against enumeration: the exact gradient, and the mean of an estimate."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tests.estimators.learned import set_learned
from tests.networks.built import Built, build, compiled_loss
from tests.networks.drawn import MOST_LISTED, SIZES, Network
from tests.networks.enumerated import Enumerated, enumerated
from tests.networks.suitable import suitable
from tf_relax.estimators import Exact

ROWS = 1000
# A score that another look, at so many samples of their own, has to take back.
SUSPECT, WRONG, ROWS_AGAIN = 4.0, 5.5, (30_000, 300_000)


class Agreement(NamedTuple):
    """How one network agreed.

    Attributes:
        error: of the exact gradient, relative to the largest component; `None` if not taken.
        estimator: which was sampled.
        score: how many standard errors its mean was off along a random direction; `None` where
            large logits make what matters too rare to be sampled.
        kinds: names of its stochastic layers.
    """

    error: float | None
    estimator: str
    score: float | None
    kinds: tuple[str, ...]


def agree(network: Network) -> Agreement:
    """Checks one network; what is exact is asserted here."""
    built = build(network)
    expected = enumerated(network, built)
    # The definitions themselves: probabilities add up.
    np.testing.assert_allclose(expected.probability, 1, rtol=0, atol=1e-9)
    error = exact_error(network, built, expected) if can_be_listed(network) else None
    estimators = suitable(network)
    estimator = estimators[digest(network) % len(estimators)]
    built.model.compile("sgd", compiled_loss(network.loss), estimator=estimator)
    score = sampled_score(network, built, expected, ROWS)
    if score is not None and abs(score) > SUSPECT:
        score = sampled_score(network, built, expected, ROWS_AGAIN[0])
        if np.isinf(score):
            score = sampled_score(network, built, expected, ROWS_AGAIN[1])
        assert abs(score) < WRONG, f"{estimator} is off by {score:.1f} standard errors"
    kinds = tuple(site.kind.name for _, site in network.sites)
    return Agreement(error, type(estimator).__name__, score, kinds)


def digest(network: Network) -> int:
    """Returns a number that is anybody's guess: Hypothesis likes small ones."""
    return zlib.crc32(repr(network).encode())


def can_be_listed(network: Network) -> bool:
    """Whether `Exact` enumerates the network, and soon."""
    sites = [site for _, site in network.sites]
    refused = [site.mask is not None and not one_number(site) for site in sites]
    listed = all("listed" in site.kind.traits for site in sites)
    return (
        listed and not any(refused) and np.prod([SIZES[s.kind.name] for s in sites]) <= MOST_LISTED
    )


def one_number(site) -> bool:
    """Whether a mask leaves the number of choices as it is."""
    return bool({"binary", "one_choice"} & site.kind.traits)


def exact_error(network: Network, built: Built, expected: Enumerated) -> float:
    model = built.model
    model.compile("sgd", compiled_loss(network.loss), estimator=Exact())
    result = model.differentiate(*built.data())
    found = dict(zip([v.path for v in result.variables], result.gradients, strict=True))
    pairs = [
        (np.zeros(g.shape) if found[path] is None else tf.convert_to_tensor(found[path]).numpy(), g)
        for path, g in expected.gradients.items()
    ]
    pairs += [
        (g.numpy(), e)
        for g, e in zip(result.logit_gradients, expected.logit_gradients, strict=True)
    ]
    largest = max(1.0, *(np.abs(e).max() for _, e in pairs))
    error = max(np.abs(g - e).max() for g, e in pairs) / largest
    assert error < 1e-8, f"the exact gradient is off by {error:.1e}"
    return float(error)


def sampled_score(network: Network, built: Built, expected: Enumerated, rows: int) -> float | None:
    """Returns the z-score of the mean estimate for the first example, in a random direction.

    It is 0 for an estimate without noise that is right, and infinite for one that is wrong, unless
    what happens less often than there are samples makes up for it (ARMS at p near 1/2).
    """
    model = built.model
    set_learned_only(model)
    result = model.differentiate(*built.data(rows))
    rng = np.random.default_rng(digest(network))
    estimate, exact = np.zeros(rows), 0.0
    for g, e in zip(result.logit_gradients, expected.logit_gradients, strict=True):
        direction = rng.normal(size=e.shape[1:])
        estimate += (g.numpy() * direction).reshape(rows, -1).sum(axis=1)
        exact += float((e[0] * direction).sum())
    assert np.isfinite(estimate).all(), f"{model.estimator} is not finite"
    if max(site.scale for _, site in network.sites) > 1:
        return None
    error = estimate.std(ddof=1) / np.sqrt(rows)
    if error < 1e-9:
        return 0.0 if np.isclose(estimate.mean(), exact, rtol=1e-7, atol=1e-7) else np.inf
    return float((estimate.mean() - exact) / error)


def set_learned_only(model) -> None:
    """Gives values to what the estimator learns, and leaves priors as the network has them."""
    priors = [
        (layer._prior_variable, layer._prior_variable.numpy())
        for layer in model.stochastic_layers
        if isinstance(layer.prior, str) and layer.prior == "learned"
    ]
    set_learned(model, spread=0.3)
    for variable, value in priors:
        variable.assign(value)
