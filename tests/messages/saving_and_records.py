"""Messages about saving, recording and masks."""

import keras
import tensorflow as tf

import tf_relax
from tests.messages.rows import Row, X, Y, model_of, step_of
from tests.models import bernoulli
from tf_relax import RelaxModel, layers
from tf_relax.layers import RelaxBernoulli


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


def recorded(**noise):
    with tf_relax.record(**noise):
        bernoulli()(Y)


def predict_inside_record():
    model = model_of(run_eagerly=False)
    with tf_relax.record():
        model.predict(X, verbose=0)


def hidden_by_a_function():
    layer = bernoulli()
    inner = tf.function(lambda logits: layer(logits, training=True))
    step_of(lambda _, logits: inner(logits), layer, graph=True)


ROWS = [
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
        "saved_before_tf_relax_0_1_0",
        lambda: RelaxBernoulli.from_config({**bernoulli().get_config(), "surrogate": "sum"}),
        ValueError,
        (
            "RelaxBernoulli 'code' was saved before tf_relax 0.1.0, when layers held what "
            "estimators learn. This version cannot read that: build the model anew and train it."
        ),
    ),
]
