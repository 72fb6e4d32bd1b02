"""The proofs can fail: any wrong sign, factor or sample in the equations breaks unbiasedness."""

import functools
import inspect
import sys
import types

import numpy as np
import pytest

import tf_relax
from tests.estimators import one_bernoulli, one_normal
from tests.estimators.mutations import MUTATIONS
from tests.estimators.table import (
    CHOICES,
    COUNTS,
    GAMMA,
    REFLECTED,
    ROWS,
    STICKS,
    UNBIASED,
    Row,
)

pytestmark = pytest.mark.usefixtures("float64")

LOGITS = np.array([[0.25, -0.8]])
PARAMETERS = np.array([[0.4, -1.0]])


def mutate(module, right, wrong):
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"the equation has changed: {right!r}"
    mutant = types.ModuleType(module.__name__ + "_mutant")
    # Without registration: the mutant's classes must not replace the real ones in Keras.
    source = source.replace(
        "@keras.saving.register_keras_serializable", "@(lambda package: lambda c: c)"
    )
    exec(compile(source.replace(right, wrong), module.__name__, "exec"), mutant.__dict__)
    return mutant


def infect(monkeypatch, original, mutant):
    """Gives the mutant's functions and classes to all that had imported the original's."""
    own = {n: v for n, v in vars(original).items() if is_from(v, original.__name__)}
    for module in [m for n, m in sys.modules.items() if n.startswith("tf_relax.")]:
        for name, value in own.items():
            if vars(module).get(name) is value:
                monkeypatch.setattr(module, name, getattr(mutant, name))


def is_from(value, module):
    return getattr(value, "__module__", None) == module


@functools.cache
def unit(units, kl):
    return one_bernoulli.one_bernoulli(units=units, kl=kl)


@functools.cache
def normal_unit():
    # Not the one that proofs share: it keeps the last mutant.
    return one_normal.one_normal.__wrapped__()


def bias(mutation):
    """The largest error of E[g], by the classes as they are now called."""
    given = mutation.estimator
    estimator = getattr(tf_relax.estimators, type(given).__name__)(**given.get_config())
    ways = {type(row.estimator).__name__: row.one_unit for row in reversed(ROWS)}
    antithetic = getattr(estimator, "coupling", None) == "antithetic"
    way = REFLECTED if antithetic and estimator.num_samples > 1 else ways[type(estimator).__name__]
    samples = mutation.importance_samples
    row = Row(estimator, way, None, importance_samples=samples)
    model = normal_unit() if mutation.on_normal else unit(mutation.units, mutation.kl)
    module = one_normal if mutation.on_normal else one_bernoulli
    module.compiled(model, estimator, importance_samples=samples)
    layer = model.get_layer("unit")
    if mutation.on_normal:
        layer.relaxation = tf_relax.relaxations.Normal()
        found = one_normal.mean_estimate(model, row, PARAMETERS)
        return np.abs(found - one_normal.exact_gradients(PARAMETERS, row)).max()
    logits = LOGITS[:, : mutation.units]
    layer.relaxation = tf_relax.relaxations.Bernoulli()
    found = one_bernoulli.mean_estimate(model, row, logits)
    exact = one_bernoulli.exact_gradients(model, logits, mutation.kl, samples)
    return np.abs(found - exact).max()


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutant_is_biased(name, monkeypatch):
    mutation = MUTATIONS[name]
    assert bias(mutation) < 1e-9
    mutant = mutate(mutation.module, mutation.right, mutation.wrong)
    infect(monkeypatch, mutation.module, mutant)
    assert bias(mutation) > 1e-4


def test_every_estimator_has_a_mutant():
    mutated = {type(mutation.estimator) for mutation in MUTATIONS.values()}
    # Those of gamma units, sticks, counts and choices have their own: test_rejection,
    # test_disarm_tree, test_counts, test_sb_carms and test_unordered_set.
    elsewhere = [*GAMMA, *STICKS, *COUNTS, *CHOICES]
    here = [row for row in UNBIASED if row not in elsewhere]
    assert {type(row.estimator) for row in here} <= mutated
