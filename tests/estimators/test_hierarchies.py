"""Hierarchies: samples of every kind held against a prior that a later layer computes.

The statistical tests' numbers of runs and bounds are those of `test_architectures`.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators.test_architectures import check, exact_gradient
from tf_relax import layers

pytestmark = pytest.mark.usefixtures("float64")

X = np.array([[0.4, -1.0]])

# What makes the first layer, and the shape of its logits: small, for with every outcome of it there
# are two of the second.
KINDS = {
    "categorical": (layers.RelaxCategorical, (3,)),
    "category_index": (functools.partial(layers.RelaxCategorical, output="index"), (3,)),
    "sticks": (functools.partial(layers.RelaxCategorical, method="stick_breaking"), (2,)),
    "plackett_luce": (layers.RelaxPermutation, (3,)),
    "stick_breaking": (functools.partial(layers.RelaxPermutation, method="stick_breaking"), (2, 2)),
    "matching": (functools.partial(layers.RelaxPermutation, method="matching"), (3, 3)),
    "place_index": (functools.partial(layers.RelaxPermutation, output="index"), (3,)),
    "set": (functools.partial(layers.RelaxTopK, k=2), (3,)),
    "ordered": (functools.partial(layers.RelaxTopK, k=2, output="ordered"), (3,)),
    "set_index": (functools.partial(layers.RelaxTopK, k=2, output="index"), (3,)),
    "spanning_tree": (layers.RelaxSpanningTree, (3,)),
    "adjacency": (functools.partial(layers.RelaxSpanningTree, output="adjacency"), (3,)),
    "arborescence": (functools.partial(layers.RelaxArborescence, nodes=3), (3, 3)),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def hierarchy(kind):
    """``q(b_1 | x) q(b_2 | b_1)`` against ``p(b_2) p(b_1 | b_2)``."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((2,))
    make, event = KINDS[kind]
    size = int(np.prod(event))
    a_1 = keras.layers.Dense(size, name="first")(inputs)
    a_1 = keras.layers.Reshape(event)(a_1)
    b_1 = make(name="b_1")(a_1)
    seen = keras.layers.Flatten()(b_1)
    b_2 = layers.RelaxBernoulli(prior="learned", name="b_2")(
        keras.layers.Dense(1, name="second")(seen)
    )
    prior = keras.layers.Dense(size, name="prior")(b_2)
    b_1 = layers.ConditionalPrior()(b_1, a_1, keras.layers.Reshape(event)(prior))
    outputs = keras.layers.Dense(1, name="decoder")(keras.layers.Flatten()(b_1))
    return tf_relax.RelaxModel(inputs, outputs)


def enumerated(model, event):
    """The gradient of ``E[f + log q(b_1) q(b_2 | b_1) - log p(b_1 | b_2) p(b_2)]``."""
    first, second, prior, decoder = map(model.get_layer, ("first", "second", "prior", "decoder"))
    layer, own = model.get_layer("b_1"), model.trainable_variables
    relaxation = layer.relaxation
    outcomes = tf.constant(relaxation.outcomes(tf.TensorShape(event)))

    def score(a):
        a = tf.broadcast_to(tf.reshape(a, (-1, *event)), (len(outcomes), *event))
        draw = relaxation.forced(a, outcomes)
        seen = tf.cast(layer.as_output(draw), "float64")
        log_p = tf.reshape(relaxation.log_prob(a, draw), (len(outcomes), -1))
        return tf.reduce_sum(log_p, axis=1), tf.reshape(seen, (len(outcomes), -1))

    with tf.GradientTape() as tape:
        log_q_1, seen = score(first(tf.constant(X)))
        f = (decoder(seen)[:, 0] - 0.3) ** 2
        total = 0.0
        for sign, j in ((-1.0, 0.0), (1.0, 1.0)):  # log sigmoid(+-a)
            log_q = log_q_1 + tf.math.log_sigmoid(sign * second(seen)[:, 0])
            log_p, _ = score(prior(tf.constant([[j]], "float64")))
            log_p += tf.math.log_sigmoid(sign * model.get_layer("b_2").prior_logits[0])
            total += tf.reduce_sum(tf.exp(log_q) * (f + log_q - log_p))
    return np.concatenate([np.ravel(g) for g in tape.gradient(total, [v.value for v in own])])


@kinds
def test_by_enumeration(kind):
    model = hierarchy(kind)
    found = exact_gradient(model, X)
    expected = enumerated(model, KINDS[kind][1])
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-9, rtol=0)


@kinds
def test_relax(kind, seed):
    check(hierarchy(kind), X, seed)


def test_indices_with_a_prior_before_a_layer_that_relaxes_the_objective(seed):
    """The surrogate of the second layer evaluates the divergence of the first as it was drawn."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((2,))
    first = layers.RelaxTopK(2, output="index", prior="uniform")(keras.layers.Dense(3)(inputs))
    hidden = keras.layers.Flatten()(keras.layers.Embedding(3, 2)(first))
    second = layers.RelaxBernoulli(prior="uniform", name="second")(keras.layers.Dense(2)(hidden))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(second))
    check(model, X, seed)
