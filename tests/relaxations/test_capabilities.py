"""What relaxations offer are types, and nothing that a layer does changes a relaxation."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.relaxations.families import FAMILIES
from tf_relax import layers
from tf_relax import relaxations as r
from tf_relax._src.relaxations.capabilities import num_outcomes

tfd = tfp.distributions

OFFERS = {
    r.Bernoulli: (r.BinaryUnits, r.Conditional, r.MeanOfLogits, r.Enumerable),
    r.Categorical: (r.Items, r.Conditional, r.MeanOfLogits, r.Enumerable),
    r.Blocks: (r.Items, r.Conditional, r.MeanOfLogits, r.Enumerable),
    r.Sticks: (r.Conditional, r.KnownMean, r.Enumerable),
    r.StickBreakingPermutation: (r.Conditional, r.Enumerable),
    r.PlackettLuce: (r.Items, r.Conditional, r.Enumerable),
    r.Race: (r.Items, r.Conditional, r.Enumerable),
    r.Poisson: (r.Discrete, r.KnownMean),
    r.Geometric: (r.Discrete, r.KnownMean),
    r.Normal: (r.Continuous, r.Conditional, r.KnownMean),
    r.GumbelMatching: (r.Items, r.Relaxed, r.Discrete),
    r.NearestPermutation: (r.Relaxed, r.Discrete),
    r.Distribution: (r.KnownMean,),
    r.Rejection: (r.Continuous, r.KnownMean),
}
ALL = (
    r.BinaryUnits,
    r.Conditional,
    r.Continuous,
    r.Discrete,
    r.Enumerable,
    r.Items,
    r.KnownMean,
    r.MeanOfLogits,
    r.Relaxed,
)


@pytest.mark.parametrize("kind", OFFERS, ids=lambda kind: kind.__name__)
def test_a_relaxation_offers_this_and_no_more(kind):
    for capability in ALL:
        expected = any(issubclass(offered, capability) for offered in OFFERS[kind])
        assert issubclass(kind, capability) is expected, capability


@pytest.mark.parametrize("kind", OFFERS, ids=lambda kind: kind.__name__)
def test_what_is_offered_is_there(kind):
    """No method of a capability is left abstract, but in races, which a subclass completes."""
    left = getattr(kind, "__abstractmethods__", frozenset())
    assert kind is r.Race or not left, left


@pytest.mark.parametrize(
    ("make", "kinds", "others"),
    [
        (lambda a: tfd.Normal(a, 1.0), (r.Continuous, r.Relaxed), (r.Discrete, r.Conditional)),
        (lambda a: tfd.Poisson(log_rate=a), (r.Discrete,), (r.Relaxed, r.Enumerable)),
        (lambda a: tfd.Bernoulli(logits=a), (r.Discrete,), (r.Relaxed, r.BinaryUnits)),
        (lambda a: tfd.VonMises(a, 1.0), (r.Continuous, r.Relaxed), (r.Discrete,)),
    ],
    ids=["normal", "poisson", "bernoulli", "von_mises"],
)
def test_a_distribution_is_known_for_a_shape(make, kinds, others):
    unknown = r.Distribution(make)
    known = unknown.for_shape(tf.TensorShape([None, 3]))
    assert all(isinstance(known, kind) for kind in kinds)
    assert not isinstance(known, others)
    assert type(unknown) is r.Distribution  # as it was


def test_samplers_by_rejection_are_no_reparameterisation():
    gamma = r.Rejection(lambda a: tfd.Gamma(tf.exp(a), 1.0))
    assert gamma.for_shape(tf.TensorShape([None, 3])) is gamma
    assert not isinstance(gamma, (r.Relaxed, r.Discrete))


def test_trees_of_any_size_are_frozen_for_a_shape():
    trees = r.SpanningTree(None)
    triangle = trees.for_shape(tf.TensorShape([None, 3]))
    assert triangle.nodes == 3
    assert trees.for_shape(tf.TensorShape([None, 6])).nodes == 4
    assert num_outcomes(triangle, tf.TensorShape([3])) == 6  # three trees, in two orders each
    assert triangle.for_shape(tf.TensorShape([None, 6])) is triangle


def state_of(relaxation):
    return {
        k: np.array(v, copy=True) if isinstance(v, np.ndarray) else v
        for k, v in vars(relaxation).items()
    }


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_nothing_changes_a_relaxation(family):
    """Neither an output shape, nor building, nor a call."""
    layer = family.make()
    relaxation, before = layer.relaxation, state_of(layer.relaxation)
    layer.compute_output_shape((None, *family.event))
    assert layer.relaxation is relaxation
    layer(tf.zeros((2, *family.event)), training=True)
    for key, value in before.items():
        np.testing.assert_array_equal(vars(relaxation)[key], value)
    assert vars(relaxation).keys() == before.keys()


def test_the_output_shape_of_trees():
    layer = layers.RelaxSpanningTree(output="adjacency")
    layer(keras.ops.zeros((2, 3)))
    assert layer.compute_output_shape((None, 3)) == (None, 3, 3)
