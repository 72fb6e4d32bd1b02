"""Messages about optimizers."""

import keras

from tests.messages.rows import Row, X, Y, model_of
from tf_relax import RelaxOptimizer


def never_averaged():
    callback = keras.callbacks.SwapEMAWeights()
    model_of().fit(X, Y, validation_data=(X, Y), callbacks=[callback], verbose=0)


ROWS = [
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
]
