"""Messages about layers."""

import keras
import tensorflow as tf

from tests.messages.rows import Row, X, Y, bernoulli, plain_model
from tf_relax import estimators, layers


def built(layer):
    layer.build((None, 2))
    return layer


ROWS = [
    Row(
        "temperature",
        lambda: estimators.Relax(temperature=0),
        ValueError,
        "Relax: `temperature` must be finite and above 0. Received: 0",
    ),
    Row(
        "inference",
        lambda: bernoulli(inference="median"),
        ValueError,
        (
            "RelaxBernoulli 'code': `inference` must be one of ('sample', 'mode', 'mean'). "
            "Received: 'median'"
        ),
    ),
    Row(
        "prior",
        lambda: bernoulli(prior="unifrom"),
        ValueError,
        (
            "RelaxBernoulli 'code': `prior` must be None, 'uniform', 'learned' or logits. "
            "Received: 'unifrom'"
        ),
    ),
    Row(
        "prior_shape",
        lambda: bernoulli(prior=[0.0, 1.0, 2.0])(tf.zeros((4, 2))),
        ValueError,
        (
            "RelaxBernoulli 'code': `prior` has the shape (3,), which does not broadcast to (2,),"
            " that of the logits of one example."
        ),
    ),
    Row(
        "learned_prior_size",
        lambda: bernoulli(prior="learned")(keras.Input((None, 2))),
        ValueError,
        (
            "RelaxBernoulli 'code': a learned prior needs logits of fixed size. Received shape "
            "(None, None, 2): fix the size, or use prior='uniform'."
        ),
    ),
    Row(
        "kl",
        lambda: bernoulli(kl="exact"),
        ValueError,
        "RelaxBernoulli 'code': `kl` must be 'analytic' or 'sampled'. Received: 'exact'",
    ),
    Row(
        "no_prior",
        lambda: bernoulli().prior_logits,
        ValueError,
        "RelaxBernoulli 'code' has no prior: pass `prior='learned'`, for example.",
    ),
    Row(
        "integer_logits",
        lambda: bernoulli()(tf.zeros((4, 2), "int32")),
        TypeError,
        (
            "RelaxBernoulli 'code' needs floating-point logits. Received dtype int32: pass the "
            "output of a layer such as Dense, not labels or indices."
        ),
    ),
    Row(
        "scalar_logits",
        lambda: bernoulli()(tf.zeros(())),
        ValueError,
        "RelaxBernoulli 'code' needs logits of shape [batch, *event]. Received a scalar.",
    ),
    Row(
        "mean_of_permutations",
        lambda: layers.RelaxPermutation(inference="mean", name="order"),
        ValueError,
        (
            "RelaxPermutation 'order' does not know the mean of its samples, or cannot return it."
            " Use inference='mode' or 'sample'."
        ),
    ),
    Row(
        "odd_parameters",
        lambda: layers.RelaxNormal(name="reals")(tf.zeros((4, 3))),
        ValueError,
        (
            "RelaxNormal 'reals' needs means and log standard deviations, an even number of "
            "parameters on the last axis. Received shape (4, 3): for n units use Dense(2 * n) "
            "before the layer."
        ),
    ),
    Row(
        "top_k",
        lambda: layers.RelaxTopK(0),
        ValueError,
        "RelaxTopK: `k` must be a whole number above 0. Received: 0",
    ),
    Row(
        "too_few_items",
        lambda: layers.RelaxTopK(3, name="chosen")(tf.zeros((4, 2))),
        ValueError,
        (
            "RelaxTopK 'chosen' chooses k=3 items and expects logits of shape [batch, ..., n] "
            "with fixed n >= 3. Received: [batch, 2]"
        ),
    ),
    Row(
        "output",
        lambda: layers.RelaxCategorical(output="one_hot_"),
        ValueError,
        "RelaxCategorical: `output` must be one of ('one_hot', 'index'). Received: 'one_hot_'",
    ),
    Row(
        "method",
        lambda: layers.RelaxPermutation(method="sinkhorn"),
        ValueError,
        (
            "RelaxPermutation: `method` must be one of ('plackett_luce', 'stick_breaking', "
            "'matching'). Received: 'sinkhorn'"
        ),
    ),
    Row(
        "edges",
        lambda: layers.RelaxSpanningTree(edges=[(0, 1), (2, 3)]),
        ValueError,
        (
            "RelaxSpanningTree: the graph is not connected, so it has no spanning tree: nodes [2,"
            " 3] cannot be reached from node 0"
        ),
    ),
    Row(
        "conditional_prior",
        lambda: layers.ConditionalPrior("normal"),
        ValueError,
        (
            "ConditionalPrior: `kind` must be None or one of ('bernoulli', 'categorical', "
            "'sticks'). Received: 'normal'"
        ),
    ),
    Row(
        "plain_keras_model",
        lambda: plain_model(bernoulli()).fit(X, Y, verbose=0),
        LookupError,
        (
            "Gradient explicitly disabled. Reason: b\"RelaxBernoulli 'code' returns discrete "
            "samples, which have no derivative: backpropagation through them would train the "
            "layers before it with a zero or biased gradient. Build the model as a "
            "tf_relax.RelaxModel and train it with `fit` (in one already, remove the inner "
            "tf.function that hides the layer), or wrap the sample in tf.stop_gradient if no "
            'gradient is wanted."'
        ),
    ),
    Row(
        "indices_in_a_surrogate",
        lambda: built(layers.RelaxCategorical(output="index", name="kind")).relaxed_output(
            Y, tf.ones(())
        ),
        ValueError,
        (
            "RelaxCategorical 'kind' returns indices, which have no relaxed stand-in, and the "
            "surrogate of a layer before it evaluates the objective at relaxed samples. Let it "
            "return one-hot vectors, or use Relax(surrogate='network') for the layers before."
        ),
    ),
]
