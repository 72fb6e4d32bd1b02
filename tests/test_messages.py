"""What users get to read: one row per wrong use, with its message, to be judged side by side.

A message names who is meant, says what was given or what is wrong, and ends with the remedy. The
rows hold it in full, or up to where it repeats the row before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tf_relax import RelaxModel, RelaxOptimizer, audit, estimators, layers, losses, surrogates
from tf_relax.callbacks import GradientVariance
from tf_relax.layers import RelaxBernoulli
from tf_relax.metrics import importance_weighted_bound

X = np.ones((4, 3), "float32")
Y = np.zeros((4, 2), "float32")

# ------------------------------------------------------------------------------ what users do


def bernoulli(**options):
    return RelaxBernoulli(**{"name": "code", **options})


def relax(**options):
    return estimators.Relax(**{"surrogate": "objective", **options})


def model_of(layer=None, after=lambda code: code, **compile_options):
    """A compiled model, 3 inputs to 2 outputs, with one layer of two bits."""
    inputs = keras.Input((3,))
    logits = keras.layers.Dense(2, name="encoder")(inputs)
    code = after((layer or bernoulli())(logits))
    model = RelaxModel(inputs, keras.layers.Dense(2, name="decoder")(code), name="model")
    if compile_options.pop("is_compiled", True):
        options = {"optimizer": "sgd", "loss": "mse", "estimator": relax(), "run_eagerly": True}
        model.compile(**{**options, **compile_options})
    return model


def step(layer=None, x=X, y=Y, after=lambda code: code, graph=False, **compile_options):
    """One step of such a model."""
    model = model_of(layer, after, **compile_options)
    if graph:
        tf.function(lambda: model.differentiate(x, y).loss, autograph=False)()
    else:
        model.differentiate(x, y)


def side_by_side(after):
    """One step of a model with two layers on one level, each of which ends in one summand."""
    inputs = keras.Input((3,))
    pair = [bernoulli(name="first"), bernoulli(name="second")]
    outputs = [layer(keras.layers.Dense(4)(inputs)) for layer in pair]
    outputs[0] = after(outputs[0])
    outputs = [keras.layers.Dense(2)(keras.layers.Flatten()(output)) for output in outputs]
    model = RelaxModel(inputs, keras.layers.Add()(outputs), name="model")
    each = {"first": relax(), "second": relax(surrogate="network")}
    model.compile("sgd", "mse", estimator=each)
    run = tf.function(lambda: model.differentiate(X, Y).loss, autograph=False)
    run()


def image(code):
    return keras.layers.Resizing(3, 3)(keras.layers.Reshape((2, 2, 1))(code)) ** 2


class Calls(RelaxModel):
    """Calls its layer as the row says."""

    def __init__(self, call_layer, layer=None):
        super().__init__(name="model")
        self.encoder, self.layer = keras.layers.Dense(2), layer or bernoulli()
        self.decoder, self.call_layer = keras.layers.Dense(2), call_layer
        self.encoder.build((None, 3))
        self.layer.build((None, 2))
        self.decoder.build((None, 2))
        self.built = True

    def call(self, x, training=None):
        return self.decoder(self.call_layer(self.layer, self.encoder(x)))


def step_of(call_layer, layer=None, graph=False, **compile_options):
    model = Calls(call_layer, layer)
    model.compile("sgd", "mse", run_eagerly=True, **{"estimator": relax(), **compile_options})
    run = lambda: model.differentiate(X, Y).loss  # noqa: E731
    (tf.function(run, autograph=False) if graph else run)()


def scalar_add_loss(layer, logits):
    sample = layer(logits, training=True)
    layer.add_loss(tf.reduce_sum(sample))
    return sample


def scalar_loss(y_true, y_pred):
    return keras.ops.mean((y_true - y_pred) ** 2)


def costs(y_true, y_pred):
    return np.abs(y_true - y_pred).sum(axis=1)


def black_box_model(cost=costs, surrogate="network"):
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, bernoulli()(keras.layers.Dense(2)(inputs)), name="model")
    estimator, loss = relax(surrogate=surrogate), losses.BlackBox(cost, name="cost")
    model.compile("sgd", loss, estimator=estimator, run_eagerly=True)
    return model


def plain_model(layer=None):
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2)(inputs)
    model = keras.Model(inputs, outputs if layer is None else layer(outputs), name="plain")
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def without_stochastic_layer():
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, keras.layers.Dense(2)(inputs), name="model")
    model.compile("sgd", "mse")
    model.differentiate(X, Y)


def dropout_under_exact():
    step(after=keras.layers.Dropout(0.5), estimator="exact")


def masked(make, shape, mask_shape):
    make(name="code")(tf.zeros(shape), mask=tf.ones(mask_shape, tf.bool))


def mask_made_of_samples():
    inputs = keras.Input((3,))
    first = layers.RelaxCategorical(name="first")(keras.layers.Dense(4)(inputs))
    rest = keras.layers.Lambda(lambda b: b < 0.5)(first)
    second = layers.RelaxCategorical(name="second")(keras.layers.Dense(4)(inputs), mask=rest)
    outputs = keras.layers.Dense(2)(keras.layers.Concatenate()([first, second]))
    model = RelaxModel(inputs, outputs, name="model")
    model.compile("sgd", "mse", estimator="relax")
    tf.function(lambda: model.differentiate(X, Y).loss, autograph=False)()


def exact_with_a_mask():
    inputs = keras.Input((3,))
    subset = layers.RelaxTopK(2, name="code")(inputs, mask=tf.ones((1, 3), tf.bool))
    model = RelaxModel(inputs, keras.layers.Dense(2)(subset), name="model")
    model.compile("sgd", "mse", estimator="exact", run_eagerly=True)
    model.differentiate(X, Y)


def built(layer):
    layer.build((None, 2))
    return layer


def recorded(**noise):
    with tf_relax.record(**noise):
        bernoulli()(Y)


def predict_inside_record():
    model = model_of(run_eagerly=False)
    with tf_relax.record():
        model.predict(X, verbose=0)


def never_averaged():
    callback = keras.callbacks.SwapEMAWeights()
    model_of().fit(X, Y, validation_data=(X, Y), callbacks=[callback], verbose=0)


def hidden_by_a_function():
    layer = bernoulli()
    inner = tf.function(lambda logits: layer(logits, training=True))
    step_of(lambda _, logits: inner(logits), layer, graph=True)


def weighted(**options):
    return model_of(
        bernoulli(prior="uniform"), loss=losses.BernoulliNLL(), importance_samples=3, **options
    )


def of_unknown_size():
    inputs = keras.Input((None, 2))
    model = RelaxModel(inputs, bernoulli()(inputs), name="model")
    model.compile("sgd", "mse", estimator=relax(surrogate="network"))


def targets_of_two_outputs():
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(2)(inputs))
    model = RelaxModel(inputs, [keras.layers.Dense(2)(code) for _ in range(2)], name="model")
    surrogate = surrogates.Network(looks_at=["targets"], targets_shape=(2,))
    estimator = relax(surrogate=surrogate)
    model.compile("sgd", ["mse", "mse"], estimator=estimator, run_eagerly=True)
    model.differentiate(X, [Y, Y])


def z_critic(units=1):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)], name="critic")


class Row(NamedTuple):
    id: str
    do: Callable[[], Any]
    error: type[Exception] | tuple[type[Exception], ...]
    message: str


ROWS = [
    # ------------------------------------------------------------------------------ layers
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
            "ConditionalPrior: `kind` must be one of ('bernoulli', 'categorical', 'sticks'). "
            "Received: 'normal'"
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
    # ------------------------------------------------------------------------------ surrogates
    Row(
        "surrogate",
        lambda: estimators.Relax(surrogate="net"),
        ValueError,
        (
            "Unknown surrogate 'net'. Known names are ['network', 'objective', 'sum']; or pass a "
            "tf_relax.surrogates.Surrogate or a Keras model of z."
        ),
    ),
    Row(
        "surrogate_sources",
        lambda: surrogates.Network(looks_at=["labels"], name="critic"),
        ValueError,
        (
            "Network 'critic' cannot look at ['labels']. Besides z it may look at ('logits', "
            "'context', 'targets'), which exist before the sample does: a surrogate that sees the"
            " sample, or anything that the sample causes (outputs, losses, later samples), makes "
            "the gradient biased."
        ),
    ),
    Row(
        "surrogate_inputs",
        lambda: surrogates.KerasModel(z_critic(), ["logits"]),
        ValueError,
        "The surrogate 'critic' has 1 inputs, and is given 2 tensors: z and ['logits'].",
    ),
    Row(
        "surrogate_output",
        lambda: step(estimator=relax(surrogate=z_critic(3))),
        ValueError,
        (
            "The surrogate 'critic' has to return one value per example, [batch] or [batch, 1]. "
            "It returned shape (4, 3)."
        ),
    ),
    Row(
        "surrogate_size",
        of_unknown_size,
        ValueError,
        (
            "A surrogate network needs logits and a context of fixed size. Received shape (None, "
            "None, 2): fix the size, or use Relax(surrogate='objective')."
        ),
    ),
    Row(
        "surrogate_targets",
        targets_of_two_outputs,
        ValueError,
        (
            "The surrogate of RelaxBernoulli 'code' looks at the targets, and this step has none "
            "that are a single tensor. Pass `y` to `fit`, or leave 'targets' out of `looks_at`."
        ),
    ),
    Row(
        "surrogate_black_box",
        lambda: black_box_model(surrogate="objective"),
        ValueError,
        (
            "Relax(surrogate='objective') has a surrogate, Objective, which evaluates the "
            "objective at relaxed samples. For RelaxBernoulli 'code' there is none: the objective "
            "is a BlackBox, or the samples are indices. Use Relax(surrogate='network')."
        ),
    ),
    Row(
        "no_derivative",
        lambda: step(after=keras.layers.Lambda(tf.round)),
        ValueError,
        (
            "The objective has no derivative with respect to the sample of RelaxBernoulli 'code', "
            "so it cannot serve as its surrogate: the sample is not used, or passes an operation "
            "without a derivative (rounding, casting to integers, argmax). Use "
            "Relax(surrogate='network'), or estimator='reinforce'."
        ),
    ),
    Row(
        "no_derivative_mixed",
        lambda: side_by_side(keras.layers.Lambda(tf.round)),
        ValueError,
        (
            "The objective has no derivative with respect to the sample of RelaxBernoulli "
            "'first', so it cannot serve as its surrogate: the sample is not used, or passes an "
            "operation without a derivative (rounding, casting to integers, argmax). Use "
            "Relax(surrogate='network'), or estimator='reinforce'."
        ),
    ),
    Row(
        "no_second_derivative_mixed",
        lambda: side_by_side(image),
        ValueError,
        (
            "The objective passes through an operation without a second derivative "
            "(ResizeBilinearGrad) after RelaxBernoulli 'first': its temperature would learn from "
            "a wrong gradient. Resize with interpolation='nearest', or use "
            "Relax(surrogate='network')."
        ),
    ),
    # ------------------------------------------------------------------------------ estimators
    Row(
        "estimator",
        lambda: model_of(estimator="relaxx"),
        ValueError,
        (
            "Unknown estimator 'relaxx'. Known names are ['arms', 'concrete', 'disarm', "
            "'disarm_tree', 'dlax', 'double_cv'"
        ),
    ),
    Row(
        "one_sample",
        lambda: estimators.LeaveOneOut(1),
        ValueError,
        (
            "LeaveOneOut compares samples with one another: a whole number, at least 2. Received:"
            " num_samples=1"
        ),
    ),
    Row(
        "baseline",
        lambda: estimators.Reinforce(baseline="mean"),
        ValueError,
        "Reinforce: `baseline` must be None, 'moving_average' or 'learned'. Received: 'mean'",
    ),
    Row(
        "num_samples",
        lambda: estimators.Relax(num_samples=0),
        ValueError,
        "Relax: `num_samples` must be at least 1 (a whole number). Received: 0",
    ),
    Row(
        "relax_on_reals",
        lambda: step(layers.RelaxNormal(name="reals"), estimator="relax"),
        ValueError,
        (
            "Relax() estimates gradients for discrete samples, and RelaxNormal 'reals' draws "
            "continuous ones. Use 'lax', 'reparameterization' or 'reinforce'."
        ),
    ),
    Row(
        "lax_on_bits",
        lambda: step(estimator="lax"),
        ValueError,
        (
            "Lax() differentiates the sample itself, and RelaxBernoulli 'code' draws discrete "
            "ones. Use 'relax', or 'leave_one_out'."
        ),
    ),
    Row(
        "disarm_on_categories",
        lambda: step(layers.RelaxCategorical(name="kind"), estimator="disarm"),
        ValueError,
        (
            "Disarm() is defined for independent binary units, which RelaxCategorical 'kind' does"
            " not draw. Use 'relax' or 'leave_one_out' for other discrete layers, 'lax' or "
            "'reinforce' for continuous ones."
        ),
    ),
    Row(
        "concrete_on_indices",
        lambda: step(
            layers.RelaxCategorical(output="index", name="kind"),
            estimator="concrete",
            after=lambda k: keras.layers.Embedding(2, 2)(k),
        ),
        ValueError,
        (
            "Concrete() differentiates the objective in the sample, and RelaxCategorical 'kind' "
            "returns indices. Let it return one-hot vectors, or use 'relax', whose surrogate "
            "network then stands alone."
        ),
    ),
    Row(
        "outcomes",
        lambda: step(estimator=estimators.Exact(max_outcomes=3)),
        ValueError,
        (
            "Exact would have to enumerate 4 joint outcomes (4 of 'code'), and max_outcomes=3. "
            "Use 'relax', or raise `max_outcomes`: every outcome is one evaluation of the model."
        ),
    ),
    Row(
        "dropout_under_exact",
        dropout_under_exact,
        ValueError,
        (
            "Exact() needs a deterministic objective, and RelaxModel 'model' draws random numbers "
            "outside of its stochastic layers"
        ),
    ),
    Row(
        "batch_statistics_under_exact",
        lambda: step(after=keras.layers.BatchNormalization(), estimator="exact"),
        ValueError,
        (
            "Exact enumerates the outcomes of one example, and here batch statistics of samples "
            "make examples depend on each other's. Use 'relax'."
        ),
    ),
    # ------------------------------------------------------------------------------ compile
    Row(
        "vimco_without_samples",
        lambda: model_of(estimator="vimco"),
        ValueError,
        (
            "Vimco estimates the gradient of the importance-weighted bound with K >= 2 samples. "
            "Compile the model with `importance_samples=K`. Received: importance_samples=None"
        ),
    ),
    Row(
        "importance_samples",
        lambda: model_of(estimator="relax", importance_samples=3),
        ValueError,
        (
            "Relax() estimates the gradient of a mean over samples, and importance_samples=3 asks "
            "for the logarithm of one. Use 'vimco' or 'reinforce', or one of the pathwise "
            "estimators."
        ),
    ),
    Row(
        "importance_samples_number",
        lambda: model_of(estimator="reinforce", importance_samples=0),
        ValueError,
        "`importance_samples` must be at least 1 (a whole number). Received: 0",
    ),
    Row(
        "importance_samples_without_prior",
        lambda: step(estimator="vimco", importance_samples=3),
        ValueError,
        (
            "RelaxModel 'model' is compiled with importance_samples=3, and has no prior: there is"
            " no likelihood to bound. Give its stochastic layers one, for example "
            "RelaxBernoulli(prior='learned')."
        ),
    ),
    Row(
        "black_box_rebar",
        lambda: model_of(loss=losses.BlackBox(costs, name="cost"), estimator="rebar"),
        ValueError,
        (
            "Estimator Rebar() differentiates the objective, and loss 'cost' is a BlackBox. Use "
            "estimator='relax', whose surrogate network then stands alone, or 'reinforce'."
        ),
    ),
    Row(
        "black_box_xla",
        lambda: model_of(
            loss=losses.BlackBox(costs, name="cost"), run_eagerly=False, jit_compile=True
        ),
        ValueError,
        (
            "Loss 'cost' is a BlackBox and runs NumPy code, which XLA cannot compile. Use "
            "jit_compile=False."
        ),
    ),
    Row(
        "using",
        lambda: weighted(estimator="vimco").using("relax").__enter__(),
        ValueError,
        (
            "Relax() estimates the gradient of a mean over samples, and importance_samples=3 asks "
            "for the logarithm of one. Use 'vimco' or 'reinforce', or one of the pathwise "
            "estimators."
        ),
    ),
    # ------------------------------------------------------------------------------ fit
    Row(
        "optimizer_none",
        lambda: model_of(optimizer=None).train_on_batch(X, Y),
        ValueError,
        (
            "RelaxModel 'model' was compiled with optimizer=None, which leaves nothing to train "
            "it with. Compile it with an optimizer, for example 'adam'."
        ),
    ),
    Row(
        "no_stochastic_layer",
        without_stochastic_layer,
        ValueError,
        (
            "RelaxModel 'model' has no stochastic layer, so there is no gradient to estimate. Add"
            " a tf_relax.layers.RelaxBernoulli, or use keras.Model."
        ),
    ),
    Row(
        "layer_not_called",
        lambda: step_of(lambda layer, logits: logits),
        RuntimeError,
        (
            "RelaxBernoulli 'code' was not recorded in the forward pass of RelaxModel 'model'. It"
            " was not called, or it was called inside a tf.function that had been traced before: "
            "remove the inner tf.function, or leave layers that are not used out of the model."
        ),
    ),
    Row(
        "map_fn",
        lambda: step_of(
            lambda layer, logits: tf.map_fn(lambda row: layer(row, training=True), logits)
        ),
        RuntimeError,
        (
            "RelaxBernoulli 'code' was called inside a tf.map_fn, the loop of a recurrent layer "
            "or a tf.function of its own, where its sample cannot be recorded and would train "
            "with a wrong gradient. Call the layer on the whole batch, use `unroll=True` for "
            "recurrent layers, remove the inner tf.function, and inside `tf_relax.record()` call "
            "the model itself instead of `predict`."
        ),
    ),
    Row(
        "map_fn_in_a_graph",
        lambda: step_of(
            lambda layer, logits: tf.map_fn(lambda row: layer(row, training=True), logits),
            graph=True,
        ),
        RuntimeError,
        (
            "RelaxBernoulli 'code' was called inside a tf.map_fn, the loop of a recurrent layer "
            "or a tf.function of its own, where its sample cannot be recorded and would train "
            "with a wrong gradient. Call the layer on the whole batch, use `unroll=True` for "
            "recurrent layers, remove the inner tf.function, and inside `tf_relax.record()` call "
            "the model itself instead of `predict`."
        ),
    ),
    Row(
        "another_rank",
        lambda: step_of(lambda layer, logits: layer(logits[:, None], training=True)[:, 0]),
        ValueError,
        (
            "RelaxBernoulli 'code' was built for logits of rank 2 and called with logits of shape"
            " (4, 1, 2), rank 3. The events of one layer have one shape: use a layer of its own "
            "for each rank."
        ),
    ),
    Row(
        "another_rank_in_a_graph",
        lambda: step_of(lambda layer, logits: layer(logits[0], training=True)[None], graph=True),
        ValueError,
        (
            "RelaxBernoulli 'code' was built for logits of rank 2 and called with logits of shape"
            " (2,), rank 1. The events of one layer have one shape: use a layer of its own for "
            "each rank."
        ),
    ),
    Row(
        "scalar_add_loss",
        lambda: step_of(scalar_add_loss),
        ValueError,
        (
            "RelaxModel 'model': a scalar `add_loss` term depends on a stochastic sample. Its "
            "gradient cannot be estimated, as it says nothing about single examples: pass "
            "`add_loss` one value per example, divided by the batch size."
        ),
    ),
    Row(
        "noise_shape",
        lambda: model_of().differentiate(X, Y, noise=[tf.zeros((4, 3))]),
        ValueError,
        (
            "Call 0 of a stochastic layer, 'code', needs noise of shape (4, 2). Received: shape "
            "(4, 3)."
        ),
    ),
    Row(
        "noise_type",
        lambda: model_of().differentiate(X, Y, noise=tf.zeros((4, 2))),
        TypeError,
        (
            "Noise is given as a list with one tensor per call of a stochastic layer. Received: "
            "EagerTensor. For a single call pass [noise]."
        ),
    ),
    # ------------------------------------------------------------------------------ losses
    Row(
        "scalar_loss",
        lambda: step(loss=scalar_loss),
        ValueError,
        (
            "Loss 'scalar_loss' returned a scalar, which carries no per-example values. Return "
            "one value per example, shape [batch] or [batch, ...], and leave the mean over the "
            "batch to Keras."
        ),
    ),
    Row(
        "dice",
        lambda: step(loss=keras.losses.Dice()),
        ValueError,
        (
            "Loss 'dice' returned a scalar, which carries no per-example values. Let it leave out"
            " the first dimension: keras.losses.Dice(axis=(1,))."
        ),
    ),
    Row(
        "tversky_of_classes",
        lambda: step(loss=keras.losses.Tversky(axis=0)),
        ValueError,
        (
            "Loss 'tversky' returned the shape (2,), which carries no per-example values. Let it "
            "leave out the first dimension: keras.losses.Tversky(axis=(1,))."
        ),
    ),
    Row(
        "reduction",
        lambda: step(loss=keras.losses.MeanSquaredError(reduction="none")),
        ValueError,
        (
            "Loss 'mean_squared_error' has reduction='none', which carries no per-example values."
            " Use 'sum_over_batch_size' or 'sum'."
        ),
    ),
    Row(
        "likelihood_shapes",
        lambda: losses.BernoulliNLL()(np.zeros((2, 3)), np.zeros((2, 3, 1))),
        ValueError,
        (
            "BernoulliNLL sums over all dimensions but the first, so y_true and y_pred need the "
            "same shape. Received: (2, 3) and (2, 3, 1)."
        ),
    ),
    Row(
        "black_box_function",
        lambda: losses.BlackBox("mse"),
        TypeError,
        "BlackBox needs a function of (y_true, y_pred). Received: 'mse'",
    ),
    Row(
        "black_box_shape",
        lambda: black_box_model(lambda y_true, y_pred: 0.0).differentiate(X, Y),
        (ValueError, tf.errors.InvalidArgumentError),
        (
            "BlackBox 'cost' needs one cost per example, shape (4,). Its function returned shape "
            "(): sum or average over the other dimensions."
        ),
    ),
    # ------------------------------------------------------------------------------ optimizer
    Row(
        "optimizer_options",
        lambda: RelaxOptimizer("adam", clipnorm=1.0),
        ValueError,
        (
            "RelaxOptimizer does not support the arguments ['clipnorm']. Set them on the "
            "optimizers it combines, e.g. RelaxOptimizer(keras.optimizers.Adam(1e-3, "
            "clipnorm=1.0), surrogate_optimizer=keras.optimizers.Adam(1e-2))."
        ),
    ),
    Row(
        "optimizer_twice",
        lambda: RelaxOptimizer(*2 * [keras.optimizers.SGD()]),
        ValueError,
        (
            "`optimizer` and `surrogate_optimizer` are the same object, but an optimizer cannot "
            "be shared: it keeps the state of one list of variables. Create two."
        ),
    ),
    Row(
        "optimizer_nested",
        lambda: RelaxOptimizer(RelaxOptimizer()),
        ValueError,
        "`optimizer` must not itself be a RelaxOptimizer.",
    ),
    Row(
        "no_averages",
        never_averaged,
        ValueError,
        (
            "SwapEMAWeights must be used when `use_ema=True` is set on the optimizer. Received: "
            "use_ema=False"
        ),
    ),
    Row(
        "optimizer_scales",
        lambda: model_of(optimizer=keras.optimizers.Adam(loss_scale_factor=8.0)),
        ValueError,
        (
            "`optimizer` must not scale the loss, because both optimizers train on the same "
            "backward pass. Wrap the pair instead: "
            "keras.optimizers.LossScaleOptimizer(RelaxOptimizer(...))."
        ),
    ),
    # ------------------------------------------------------------------------------ audit, metrics
    Row(
        "audit_uncompiled",
        lambda: audit(model_of(is_compiled=False), X, Y),
        ValueError,
        "Model 'model' is not compiled: call `compile` before `audit`.",
    ),
    Row(
        "audit_plain_model",
        lambda: audit(plain_model(), X, Y),
        TypeError,
        "`audit` measures the estimators of a tf_relax.RelaxModel. 'plain' is a Functional.",
    ),
    Row(
        "audit_samples",
        lambda: audit(model_of(), X, Y, num_samples=2),
        ValueError,
        "`num_samples` must be at least 8. Received: 2",
    ),
    Row(
        "audit_estimator",
        lambda: audit(model_of(), X, Y, ["relax", "lax"]),
        ValueError,
        (
            "Lax() differentiates the sample itself, and RelaxBernoulli 'code' draws discrete "
            "ones. Use 'relax', or 'leave_one_out'."
        ),
    ),
    Row(
        "audit_weighted",
        lambda: audit(weighted(estimator="vimco"), X, Y, ["relax"]),
        ValueError,
        (
            "Relax() estimates the gradient of a mean over samples, and importance_samples=3 asks "
            "for the logarithm of one. Use 'vimco' or 'reinforce', or one of the pathwise "
            "estimators."
        ),
    ),
    Row(
        "variance_frequency",
        lambda: GradientVariance(X, Y, frequency=0),
        ValueError,
        "GradientVariance: `frequency` must be at least 1. Received: 0",
    ),
    Row(
        "variance_of_a_plain_model",
        lambda: plain_model().fit(X, Y, callbacks=[GradientVariance(X, Y)], verbose=0),
        TypeError,
        (
            "GradientVariance measures the estimator of a tf_relax.RelaxModel. 'plain' is a "
            "Functional."
        ),
    ),
    Row(
        "bound_samples",
        lambda: importance_weighted_bound(model_of(), X, num_samples=0),
        ValueError,
        "`num_samples` must be at least 1. Received: 0",
    ),
    Row(
        "bound_uncompiled",
        lambda: importance_weighted_bound(model_of(is_compiled=False), X),
        ValueError,
        "Model 'model' is not compiled: call `compile` with the likelihood as its loss.",
    ),
    Row(
        "bound_without_prior",
        lambda: importance_weighted_bound(model_of(), X),
        ValueError,
        (
            "Model 'model' has no prior, so there is no likelihood to bound. Give its stochastic "
            "layers one, for example RelaxBernoulli(prior='learned')."
        ),
    ),
    # ------------------------------------------------------------------------------ saving, records
    Row(
        "legacy_hdf5",
        lambda: model_of().save("model.h5"),
        ValueError,
        (
            "RelaxModel 'model' cannot be saved to a legacy HDF5 file, which has no place for its"
            " estimator. Use `model.save('model.keras')`, or for the weights alone "
            "`model.save_weights('model.weights.h5')`."
        ),
    ),
    Row(
        "record_shape",
        lambda: recorded(noise=[tf.zeros((4, 3))]),
        ValueError,
        (
            "Call 0 of a stochastic layer, 'code', needs noise of shape (4, 2). Received: shape "
            "(4, 3)."
        ),
    ),
    Row(
        "record_too_much",
        lambda: recorded(noise=[Y, Y]),
        ValueError,
        (
            "There is noise for 2 calls of stochastic layers, and 1 were made. Pass one tensor "
            "per call, in their order."
        ),
    ),
    Row(
        "record_one_tensor",
        lambda: recorded(noise=Y),
        TypeError,
        (
            "Noise is given as a list with one tensor per call of a stochastic layer. Received: "
            "ndarray. For a single call pass [noise]."
        ),
    ),
    Row(
        "predict_inside_record",
        predict_inside_record,
        RuntimeError,
        (
            "RelaxBernoulli 'code' was called inside a tf.map_fn, the loop of a recurrent layer or "
            "a tf.function of its own, where its sample cannot be recorded and would train with a "
            "wrong gradient."
        ),
    ),
    Row(
        "inner_function",
        hidden_by_a_function,
        RuntimeError,
        (
            "RelaxBernoulli 'code' was called inside a tf.map_fn, the loop of a recurrent layer "
            "or a tf.function of its own, where its sample cannot be recorded and would train "
            "with a wrong gradient. Call the layer on the whole batch, use `unroll=True` for "
            "recurrent layers, remove the inner tf.function, and inside `tf_relax.record()` call "
            "the model itself instead of `predict`."
        ),
    ),
    Row(
        "mask_of_another_size",
        lambda: masked(layers.RelaxCategorical, (2, 4), (2, 3)),
        ValueError,
        (
            "RelaxCategorical 'code': `mask` has the shape (2, 3), which does not fit logits of "
            "shape (2, 4). It holds one boolean per logit, and starts with the batch; for a whole "
            "step one will do, [batch, steps]."
        ),
    ),
    Row(
        "mask_with_too_many_axes",
        lambda: masked(RelaxBernoulli, (2, 4), (2, 1, 4)),
        ValueError,
        "RelaxBernoulli 'code': `mask` has the shape (2, 1, 4), which does not fit logits of",
    ),
    Row(
        "mask_of_sticks",
        lambda: masked(
            lambda **a: layers.RelaxCategorical(method="stick_breaking", **a), (2, 3), (2, 3)
        ),
        ValueError,
        (
            "RelaxCategorical 'code': `mask` has the shape (2, 3), and its logits, of shape "
            "(2, 3), do not belong to items that could be ruled out. Use a layer with one logit "
            "per item, such as RelaxCategorical(method='gumbel') or "
            "RelaxPermutation(method='plackett_luce'), or a mask of whole steps."
        ),
    ),
    Row(
        "mask_made_of_samples",
        mask_made_of_samples,
        ValueError,
        (
            "The mask of RelaxCategorical 'second' is computed from the samples of 'first', whose "
            "surrogate evaluates the objective at relaxed samples: a mask that jumps there makes "
            "the gradient biased. Use Relax(surrogate='network'), or estimator='leave_one_out'."
        ),
    ),
    Row(
        "exact_with_a_mask",
        exact_with_a_mask,
        ValueError,
        (
            "Exact enumerates samples with one number of choices, and the mask of RelaxTopK "
            "'code' may leave examples with fewer. Use 'relax'."
        ),
    ),
    Row(
        "saved_by_tf_relax_0_1",
        lambda: RelaxBernoulli.from_config({**bernoulli().get_config(), "surrogate": "sum"}),
        ValueError,
        (
            "RelaxBernoulli 'code' was saved by tf_relax 0.1, whose layers held what estimators "
            "learn. This version cannot read that: build the model anew and train it, or load the "
            "file with tf_relax 0.1."
        ),
    ),
    # ------------------------------------------------------------------------------ several layers
    Row(
        "estimators_by_unknown_names",
        lambda: model_of(estimator={"code": "relax", "kode": "disarm"}),
        ValueError,
        (
            "The mapping of estimators has no stochastic layers ['kode']. It needs the names of "
            "the stochastic layers of the model, each once: ['code']."
        ),
    ),
    Row(
        "estimators_by_too_few_names",
        lambda: model_of(
            after=lambda code: bernoulli(name="second")(code), estimator={"code": "relax"}
        ),
        ValueError,
        (
            "The mapping of estimators leaves out ['second']. It needs the names of the "
            "stochastic layers of the model, each once: ['code', 'second']."
        ),
    ),
    Row(
        "estimators_that_work_on_all_layers",
        lambda: model_of(estimator={"code": "exact"}),
        ValueError,
        (
            "Exact() works on all layers of a model together, and cannot be combined with others, "
            "as it is for the layer 'code'. Use it for the whole model, or another one, such as "
            "'relax' or 'leave_one_out', for this layer."
        ),
    ),
    Row(
        "estimators_with_different_passes",
        lambda: model_of(
            after=lambda code: bernoulli(name="second")(code),
            estimator={"code": estimators.LeaveOneOut(3), "second": "disarm"},
        ),
        ValueError,
        (
            "LeaveOneOut(num_samples=3) and Disarm() draw their samples in different ways, 3 "
            "independent passes and 1, and cannot be combined. Choose one of them for both layers, "
            "or two that take the same `num_samples`."
        ),
    ),
    Row(
        "no_estimator_by_name",
        lambda: model_of(estimator={}),
        ValueError,
        "PerLayer: an estimator is needed for every stochastic layer.",
    ),
    Row(
        "state_of_an_unknown_layer",
        lambda: model_of().estimator_state["kode"],
        KeyError,
        "\"There is a state for the layers ['code'], and none for 'kode'.\"",
    ),
]


def test_ids_are_unique_and_the_page_is_long():
    assert len({row.id for row in ROWS}) == len(ROWS) >= 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_message(row):
    with pytest.raises(row.error) as caught:
        row.do()
    text = " ".join(str(caught.value).split())
    if "Exception encountered when calling" in text:  # Keras says in which layer
        assert row.message in text
    else:
        assert text.startswith(row.message)
