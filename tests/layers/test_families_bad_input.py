"""Layers of categories, permutations, subsets, trees and any distribution: what they refuse."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.relaxations.families import FAMILIES
from tf_relax import RelaxModel
from tf_relax.layers import (
    ConditionalPrior,
    GumbelSinkhorn,
    RelaxArborescence,
    RelaxCategorical,
    RelaxPermutation,
    RelaxSample,
    RelaxSpanningTree,
    RelaxTopK,
    Rounding,
)

tfd = tfp.distributions


def sticks(**arguments):
    return RelaxCategorical(method="stick_breaking", **arguments)


def permutation(method):
    return lambda **arguments: RelaxPermutation(method=method, **arguments)


def gamma(a):
    return tfd.Gamma(tf.exp(a), 1.0)


def poisson(a):
    return tfd.Poisson(log_rate=a)


def mixture(a):
    return tfd.MixtureSameFamily(
        tfd.Categorical(logits=a[:, tf.newaxis]), tfd.Normal(tf.zeros((1, 2)), 1.0)
    )


def compiled(layer, event, estimator):
    inputs = keras.Input(event)
    model = RelaxModel(inputs, keras.layers.Flatten()(layer(inputs)))
    model.compile("sgd", "mse", estimator=estimator, run_eagerly=True)
    return model


def fit(layer, event, estimator):
    model = compiled(layer, event, estimator)
    model.fit(np.zeros((4, *event)), np.zeros((4, model.output_shape[-1])), verbose=0)


# ------------------------------------------------------------------------------ shapes


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (RelaxCategorical, (2, 1), "[batch, ..., categories], with at least 2"),
        (RelaxCategorical, (2,), "[batch, ..., categories]"),
        (RelaxCategorical, (), "[batch, *event]. Received a scalar"),
        (sticks, (2, 0), "[batch, ..., categories - 1], one per stick"),
        (RelaxPermutation, (2, 1), "[batch, ..., n], one per item, with fixed n >= 2"),
        (permutation("stick_breaking"), (2, 3, 4), "[batch, ..., n - 1, n - 1]"),
        (permutation("matching"), (2, 3, 4), "[batch, ..., n, n]"),
        (permutation("matching"), (2, 3), "[batch, ..., n, n]"),
        (lambda **named: RelaxTopK(4, **named), (2, 3), "fixed n >= 4. Received: [batch, 3]"),
        (RelaxSpanningTree, (2, 5), "n (n - 1) / 2 of them, and 5 is no such number"),
        (RelaxSpanningTree, (2, 0), "and 0 is no such number"),
        (
            lambda **named: RelaxSpanningTree(edges=[(0, 1), (1, 2)], **named),
            (2, 3),
            "2 edges and expects logits of shape [batch, ..., 2]",
        ),
        (
            lambda **named: RelaxArborescence(3, **named),
            (2, 4, 4),
            "3 nodes and expects logits of shape [batch, ..., 3, 3]",
        ),
        (GumbelSinkhorn, (2, 3, 4), "[batch, ..., n, n] with fixed n"),
        (Rounding, (2, 3, 3), "[batch, ..., n, 2 n] with fixed n"),
    ],
)
def test_ill_shaped_logits(make, shape, expected):
    """The message names the layer, the shape it expects and the one that it got."""
    layer = make(name="layer")
    with pytest.raises(ValueError, match=f"{type(layer).__name__} 'layer'.*{re.escape(expected)}"):
        layer(tf.zeros(shape))


@pytest.mark.parametrize(
    "make", [RelaxCategorical, RelaxPermutation, lambda **named: RelaxTopK(1, **named)]
)
def test_number_of_items_must_be_known(make):
    with pytest.raises(ValueError, match=r"'layer'.*fixed.*\[batch, \?\]"):
        make(name="layer")(keras.Input((None,)))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_integer_logits(family):
    with pytest.raises(TypeError, match=r"'layer' needs floating-point logits.*int32"):
        family.make(name="layer")(tf.zeros((2, *family.event), "int32"))


@pytest.mark.parametrize(
    ("mask", "event"), [([True, True, False], (4,)), (np.ones((5, 4)), (4,))], ids=["size", "rank"]
)
@pytest.mark.parametrize(
    "make", [RelaxCategorical, lambda **named: RelaxTopK(1, **named)], ids=["categorical", "top_k"]
)
def test_masks_of_another_shape(make, mask, event):
    match = rf"'layer': `mask` has the shape {re.escape(str(np.shape(mask)))}.*broadcast.*\(4,\)"
    with pytest.raises(ValueError, match=match):
        make(mask=mask, name="layer")(tf.zeros((2, *event)))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_priors_of_another_shape(family):
    with pytest.raises(ValueError, match=r"'layer': `prior` has the shape \(7,\).*broadcast"):
        family.make(prior=np.zeros(7), name="layer")(tf.zeros((2, *family.event)))


# ------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: RelaxCategorical(method="sticks"), "`method` must be 'gumbel' or.*'sticks'"),
        (lambda: RelaxPermutation(method="sort"), "`method` must be one of.*'matching'.*'sort'"),
        (lambda: RelaxCategorical(output="ones"), r"`output` must be one of \('one_hot'.*'ones'"),
        (lambda: RelaxPermutation(output="ones"), r"`output` must be one of \('matrix'.*'ones'"),
        (lambda: RelaxTopK(2, output="ones"), r"`output` must be one of \('set'.*'ones'"),
        (lambda: RelaxSpanningTree(output="ones"), r"`output` must be one of \('edges'.*'ones'"),
        (lambda: RelaxCategorical(kl="exact"), "`kl` must be 'analytic' or 'sampled'.*'exact'"),
        (lambda: RelaxTopK(2, prior="flat"), "`prior` must be None, 'uniform'.*'flat'"),
        (lambda: RelaxTopK(2, prior=[np.nan, 0.0]), "logits of the prior must be finite"),
        (lambda: RelaxTopK(2, inference="mean"), "mean of its samples.*inference='mode'"),
        (lambda: RelaxCategorical(output="index", inference="mean"), "inference='mode'"),
        (lambda: RelaxTopK(0), "`k` must be a whole number above 0. Received: 0"),
        (lambda: RelaxTopK(1.5), "`k` must be a whole number above 0. Received: 1.5"),
        (lambda: RelaxCategorical(mask=[[True, False], [False, False]]), "mask leaves 0 items"),
        (lambda: RelaxTopK(2, mask=[True, False, False]), "leaves 1 items.*and 2 are needed"),
        (lambda: sticks(mask=[True, True]), "a mask needs method='gumbel'"),
        (lambda: Rounding(prior="uniform"), "from a prior is not known. Use GumbelSinkhorn"),
        (
            lambda: ConditionalPrior(kind="trees"),
            "`kind` must be None or one of.*'trees'",
        ),
        (lambda: RelaxSample(gamma, sampler="accept"), "'tfp' or 'rejection'. Received: 'accept'"),
        (lambda: RelaxSample(gamma, sampler="rejection", boosts=0), "`boosts`.*at least 1.*0"),
    ],
)
def test_options(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: RelaxSpanningTree(edges=[(0, 1), (2, 3)]), r"not connected.*nodes \[2, 3\]"),
        (lambda: RelaxSpanningTree(edges=[(0, 0), (0, 1)]), "must not contain loops"),
        (lambda: RelaxSpanningTree(edges=[(0, 1), (1, 0)]), "nor the same edge twice"),
        (lambda: RelaxSpanningTree(edges=[]), r"must be pairs of nodes.*\[\]"),
        (lambda: RelaxArborescence(3, edges=[(0, 1), (2, 1)]), r"nodes \[2\] cannot be reached"),
        (lambda: RelaxArborescence(3, edges=[(0, 5)]), r"edge \(0, 5\).*3 nodes"),
        (lambda: RelaxArborescence(3, root=3), "a root among them.*nodes=3, root=3"),
        (lambda: RelaxArborescence(1), "at least 2 nodes"),
    ],
)
def test_graphs(make, match):
    with pytest.raises(ValueError, match=rf"Relax(SpanningTree|Arborescence): .*{match}"):
        make()


# ------------------------------------------------------------------------------ estimators


@pytest.mark.parametrize("estimator", ["relax", "rebar"])
@pytest.mark.parametrize(
    ("make", "event"), [(GumbelSinkhorn, (3, 3)), (Rounding, (3, 6))], ids=["sinkhorn", "rounding"]
)
def test_no_conditional_samples(make, event, estimator):
    match = rf"{estimator.title()}\(.*z given b.*{make.__name__} 'layer'.*Use 'dlax'"
    with pytest.raises(ValueError, match=match):
        fit(make(name="layer"), event, estimator)


@pytest.mark.parametrize("estimator", ["lax", "reparameterization", "dlax", "concrete"])
@pytest.mark.parametrize("make", [poisson, mixture])
def test_samples_without_a_derivative(make, estimator):
    """The message names the estimator and the layer."""
    with pytest.raises(ValueError, match=rf"{estimator.title()}\(.*RelaxSample 'layer'.*Use '"):
        fit(RelaxSample(make, name="layer"), (2,), estimator)


@pytest.mark.parametrize("estimator", ["lax", "reparameterization", "dlax", "relax", "concrete"])
def test_rejection_samples_have_an_estimator_of_their_own(estimator):
    with pytest.raises(ValueError, match=r"RelaxSample 'layer'.*Use '"):
        fit(RelaxSample(gamma, sampler="rejection", name="layer"), (2,), estimator)


def test_estimator_of_rejection_samples_elsewhere():
    for layer, event in (
        (RelaxSample(gamma, name="layer"), (2,)),
        (RelaxCategorical(name="layer"), (3,)),
    ):
        with pytest.raises(ValueError, match=r"Rejection.*'layer'.*sampler='rejection'"):
            fit(layer, event, "rejection")


@pytest.mark.parametrize(
    "make",
    [lambda a: tfd.Normal(a, 1.0), lambda a: tfd.Independent(gamma(a), 1)],
    ids=["Normal", "Independent"],
)
def test_rejection_of_other_distributions(make):
    match = "'layer': sampler='rejection' is for Gamma, Beta and Dirichlet.*sampler='tfp'"
    with pytest.raises(ValueError, match=match):
        RelaxSample(make, sampler="rejection", name="layer")(tf.zeros((2, 3)))


@pytest.mark.parametrize("estimator", ["disarm", "arms", "double_cv", "rodeo"])
def test_estimators_of_binary_units(estimator):
    for family in FAMILIES:
        with pytest.raises(ValueError, match="'layer'"):
            compiled(family.make(name="layer"), family.event, estimator).fit(
                np.zeros((2, *family.event)), np.zeros((2, 1)), verbose=0
            )


# ------------------------------------------------------------------------------ distributions


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((3, None), "`make_distribution` must be a function that returns a distribution.*3"),
        ((gamma, tfd.Gamma(1.0, 1.0)), "`prior` must be a function that returns a distribution"),
    ],
)
def test_distributions_are_made_by_functions(arguments, match):
    with pytest.raises(TypeError, match=match):
        RelaxSample(arguments[0], prior=arguments[1])


def test_functions_that_make_something_else():
    with pytest.raises(TypeError, match=r"RelaxSample 'layer': `make_distribution` must return"):
        RelaxSample(tf.exp, name="layer")(tf.zeros((2, 3)))


def test_distributions_without_the_batch():
    def summed(a):
        return tfd.Normal(tf.reduce_sum(a), 1.0)

    with pytest.raises(ValueError, match=r"RelaxSample 'layer'.*\[batch, \.\.\.\].*\(2, 3\)"):
        RelaxSample(summed, name="layer")(tf.zeros((2, 3)))


# ------------------------------------------------------------------------------ NaN


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_examples_with_nan_leave_the_others_alone(family, rng):
    """Samples and gradients of three examples are the same, whatever the fourth is."""
    a = rng.normal(size=(4, *family.event)).astype("float32")
    model = compiled(family.make(name="layer", seed=0), family.event, "relax")
    y = tf.zeros((4, model.output_shape[-1]))
    found = []
    for bad in (False, True):
        x = a.copy()
        if bad:
            x[2] = np.nan
        model.get_layer("layer").seed_generator.state.assign([3, 4])
        found.append(model.differentiate(tf.constant(x), y).logit_gradients[0].numpy())
        model.get_layer("layer").seed_generator.state.assign([3, 4])
        found.append(np.asarray(model(tf.constant(x), training=True)))
    others = [0, 1, 3]
    for good, beside_nan in ((found[0], found[2]), (found[1], found[3])):
        assert np.isfinite(beside_nan[others]).all()
        np.testing.assert_allclose(beside_nan[others], good[others], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_checked_logits(family):
    layer = family.make(name="layer", check_numerics=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Logits of .* 'layer'.*NaN"):
        layer(tf.fill((2, *family.event), np.nan))
