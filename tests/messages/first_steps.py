"""Messages about what one gets wrong on the first day."""

import keras
import numpy as np
import tensorflow as tf

from tests.messages.rows import Row, X, Y, bernoulli, model_of, relax
from tf_relax import RelaxModel, audit, estimators, layers, losses


def held_against(prior_logits):
    logits = tf.zeros((4, 2))
    return layers.ConditionalPrior(name="prior")(bernoulli()(logits), logits, prior_logits)


def category(**options):
    return layers.RelaxCategorical(name="kind", **options)


def model_of_indices(**compile_options):
    inputs = keras.Input((3,))
    kind = category(output="index")(keras.layers.Dense(2)(inputs))
    model = RelaxModel(inputs, keras.layers.Embedding(2, 2)(kind), name="model")
    model.compile("sgd", "mse", run_eagerly=True, **compile_options)
    return model


ROWS = [
    Row(
        "not_compiled",
        lambda: model_of(is_compiled=False).differentiate(X, Y),
        ValueError,
        (
            "RelaxModel 'model' is not compiled, so there is no objective and no estimator to "
            "differentiate with: call `compile(optimizer, loss=...)` first."
        ),
    ),
    Row(
        "no_targets",
        lambda: model_of().fit(X, verbose=0),
        ValueError,
        (
            "RelaxModel 'model' is compiled with a loss, and was given no targets to compare its "
            "outputs with. Pass them: fit(x, y), or fit(x, x) for an autoencoder."
        ),
    ),
    Row(
        "targets_of_another_size",
        lambda: model_of().fit(X, np.zeros((4, 5), "float32"), verbose=0),
        ValueError,
        (
            "Loss 'mean_squared_error' cannot compare targets of shape (4, 5) with outputs of "
            "shape (4, 2): give the last layer of the model the shape of the targets, or choose "
            "another loss."
        ),
    ),
    Row(
        "targets_of_another_size_in_a_graph",
        lambda: model_of(loss=losses.BernoulliNLL(), run_eagerly=False).fit(
            X, np.zeros((4, 5), "float32"), verbose=0
        ),
        ValueError,
        (
            "Loss 'bernoulli_nll' cannot compare targets of shape (None, 5) with outputs of shape "
            "(None, 2): give the last layer of the model the shape of the targets, or choose "
            "another loss."
        ),
    ),
    Row(
        "number_of_units",
        lambda: bernoulli(prior=10),
        ValueError,
        (
            "RelaxBernoulli 'code': `prior` is 10, a single whole number. The layer has as many "
            "units as it is given logits: put a Dense layer of that size before it. For a prior "
            "pass 'uniform', 'learned' or logits, such as [0.0]."
        ),
    ),
    Row(
        "prior_true",
        lambda: bernoulli(prior=True),
        ValueError,
        "RelaxBernoulli 'code': `prior` is True, a single whole number. The layer has as many ",
    ),
    Row(
        "prior_by_a_layer",
        lambda: bernoulli(prior=keras.layers.Dense(2, name="deeper")),
        ValueError,
        (
            "RelaxBernoulli 'code': `prior` must be None, 'uniform', 'learned' or logits, as an "
            "array. Received: <Dense name=deeper, built=False>. For a prior that a network "
            "computes use tf_relax.layers.ConditionalPrior."
        ),
    ),
    Row(
        "prior_not_finite",
        lambda: bernoulli(prior=[float("nan")]),
        ValueError,
        "RelaxBernoulli 'code': the logits of the prior must be finite.",
    ),
    Row(
        "kl_weight",
        lambda: bernoulli(prior="uniform", kl_weight="big"),
        ValueError,
        "RelaxBernoulli 'code': `kl_weight` must be a finite number. Received: 'big'",
    ),
    Row(
        "temperature_by_name",
        lambda: relax(temperature="low"),
        ValueError,
        "Relax: `temperature` must be finite and above 0. Received: 'low'",
    ),
    Row(
        "scale",
        lambda: relax(scale="large"),
        ValueError,
        "Relax: `scale` must be a finite number. Received: 'large'",
    ),
    Row(
        "labels_for_logits",
        lambda: category()(np.array([[0, 1]])),
        TypeError,
        (
            "RelaxCategorical 'kind' needs floating-point logits. Received dtype int64: pass the "
            "output of a layer such as Dense, not labels or indices."
        ),
    ),
    Row(
        "one_category",
        lambda: category()(tf.zeros((4, 1))),
        ValueError,
        (
            "RelaxCategorical 'kind' expects logits of shape [batch, ..., categories], with at "
            "least 2 categories of fixed number on the last axis. Received: [batch, 1]"
        ),
    ),
    Row(
        "two_tensors_of_logits",
        lambda: bernoulli()([tf.zeros((4, 2)), tf.zeros((4, 2))]),
        TypeError,
        (
            "RelaxBernoulli 'code' takes one tensor of logits. Received 2 of them: concatenate "
            "them, or call the layer with each."
        ),
    ),
    Row(
        "conditional_prior_of_another_size",
        lambda: held_against(tf.zeros((4, 3))),
        ValueError,
        (
            "ConditionalPrior 'prior': `prior_logits` has the shape (4, 3) and `logits` (4, 2). "
            "The prior is of the same kind, with one logit for each: give the layer that computes "
            "its logits as many units."
        ),
    ),
    Row(
        "mask_of_the_layer",
        lambda: category(mask=[True, False])(tf.zeros((4, 3))),
        ValueError,
        (
            "RelaxCategorical 'kind': `mask` has the shape (2,), which does not broadcast to (3,),"
            " that of the logits of one example."
        ),
    ),
    Row(
        "mask_that_leaves_nothing",
        lambda: layers.RelaxTopK(2, mask=[True, False, False], name="chosen"),
        ValueError,
        ("RelaxTopK 'chosen': the mask leaves 1 items to choose from, and 2 are needed."),
    ),
    Row(
        "number_of_edges",
        lambda: layers.RelaxSpanningTree(name="tree")(tf.zeros((4, 5))),
        ValueError,
        (
            "RelaxSpanningTree 'tree' expects one logit per edge of a complete graph, n (n - 1) / "
            "2 of them, and 5 is no such number: pass `edges`, or the right number of logits"
        ),
    ),
    Row(
        "number_of_nodes",
        lambda: layers.RelaxArborescence(3.0),
        ValueError,
        (
            "RelaxArborescence: needs at least 2 nodes, and a root among them, as whole numbers. "
            "Received: nodes=3.0, root=0"
        ),
    ),
    Row(
        "size_of_a_subset",
        lambda: layers.RelaxTopK("3"),
        ValueError,
        "RelaxTopK: `k` must be a whole number above 0. Received: '3'",
    ),
    Row(
        "estimator_class",
        lambda: model_of(estimator=estimators.Relax),
        ValueError,
        "Unknown estimator <class 'tf_relax._src.estimators.control_variate.Relax'>. Known names ",
    ),
    Row(
        "indices_under_the_objective",
        lambda: model_of_indices(estimator=relax(surrogate="objective")).fit(X, Y, verbose=0),
        ValueError,
        (
            "Relax(surrogate='objective') has a surrogate, Objective, which evaluates the "
            "objective at relaxed samples. For RelaxCategorical 'kind' there is none: the "
            "objective is a BlackBox, or the samples are indices. Use Relax(surrogate='network')."
        ),
    ),
    Row(
        "audit_of_nothing",
        lambda: audit(model_of(), X, Y, []),
        ValueError,
        "`audit` needs an estimator to measure, for example ['relax'].",
    ),
]
