"""Messages about losses."""

import keras
import numpy as np
import tensorflow as tf

from tests.messages.rows import Row, X, Y, black_box_model, step
from tests.models import scalar_loss
from tf_relax import losses

ROWS = [
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
]
