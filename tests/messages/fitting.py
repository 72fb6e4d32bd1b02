"""Messages about a step of `fit`."""

import keras
import tensorflow as tf

from tests.messages.rows import Row, X, Y, model_of, step_of
from tf_relax import RelaxModel


def scalar_add_loss(layer, logits):
    sample = layer(logits, training=True)
    layer.add_loss(tf.reduce_sum(sample))
    return sample


def without_stochastic_layer():
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, keras.layers.Dense(2)(inputs), name="model")
    model.compile("sgd", "mse")
    model.differentiate(X, Y)


ROWS = [
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
]
