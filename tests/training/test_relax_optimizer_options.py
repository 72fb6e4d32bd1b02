"""Options of the two optimizers inside of a RelaxOptimizer: rates, averages, decay, precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.models import assert_same, numpy
from tests.training.optimizer_pairs import (
    adam,
    assert_close,
    assert_same_state,
    fit,
    make_model,
    sgd,
    two_sgd,
    two_variables,
)
from tf_relax._src.surrogates.variables import mark_surrogate_variables
from tf_relax._src.training.relax_optimizer import RelaxOptimizer

# ------------------------------------------------------------------------------ learning rate


def test_learning_rate_and_iterations_are_the_main_optimizers():
    optimizer = RelaxOptimizer(
        sgd(0.25, gradient_accumulation_steps=2), surrogate_optimizer=sgd(0.5)
    )
    theta, phi = two_variables()
    for _ in range(2):
        optimizer.apply([tf.ones(2), tf.ones(1)], [theta, phi])
    assert_same([theta, phi], [[0.75, 0.75], [0.0]])
    assert int(optimizer.iterations) == 1
    assert float(optimizer.learning_rate) == 0.25
    optimizer.learning_rate = 0.125
    assert float(optimizer.optimizer.learning_rate) == 0.125
    assert float(optimizer.surrogate_optimizer.learning_rate) == 0.5


def test_learning_rate_schedules_inside():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.5, 0.25])
    optimizer = RelaxOptimizer(sgd(schedule), surrogate_optimizer=sgd(0.5))
    theta, phi = two_variables()
    for _ in range(2):
        optimizer.apply([tf.ones(2), tf.ones(1)], [theta, phi])
    assert_same([theta, phi], [[0.25, 0.25], [0.0]])
    with pytest.raises(TypeError, match="not settable"):
        optimizer.learning_rate = 0.1


@pytest.mark.parametrize(
    "callback",
    [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        keras.callbacks.ReduceLROnPlateau(
            monitor="loss", factor=0.25, patience=1, min_delta=1e6, min_lr=0.0
        ),
    ],
    ids=["scheduler", "plateau"],
)
def test_learning_rate_callbacks_drive_the_main_optimizer_alone(callback):
    model = make_model(two_sgd())
    history = fit(model, epochs=2, callbacks=[callback]).history
    assert float(model.optimizer.optimizer.learning_rate) == 0.0625
    assert float(model.optimizer.surrogate_optimizer.learning_rate) == 0.5
    assert len(history["learning_rate"]) == 2


# ------------------------------------------------------------------------------ averages, decay


@pytest.mark.parametrize("averaged", ["main", "surrogate", "both"])
def test_moving_averages_end_in_their_own_variables(averaged):
    model = make_model(
        RelaxOptimizer(
            adam(0.1, use_ema=averaged != "surrogate", ema_momentum=0.9),
            surrogate_optimizer=adam(0.2, use_ema=averaged != "main", ema_momentum=0.5),
        )
    )
    raw = {}
    at_end = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: raw.update({v.path: v.numpy() for v in model.weights})
    )
    fit(model, callbacks=[at_end])
    for layer, inner, has_average in (
        ("theta", model.optimizer.optimizer, averaged != "surrogate"),
        ("phi", model.optimizer.surrogate_optimizer, averaged != "main"),
    ):
        variables = model.get_layer(layer).weights
        averages = [v for v in inner.variables if v.path.endswith("average")]
        assert len(averages) == (2 if has_average else 0)
        for i, variable in enumerate(variables):
            assert (variable.numpy() != raw[variable.path]).any() == has_average
            if has_average:
                assert_same([variable], [averages[i]])


def test_finalizing_depends_neither_on_order_nor_on_frozen_variables():
    first, frozen, phi, second = variables = [keras.Variable([1.0, 1.0]) for _ in range(4)]
    mark_surrogate_variables([phi])
    optimizer = RelaxOptimizer(sgd(1.0, use_ema=True), surrogate_optimizer=sgd(1.0, use_ema=True))
    gradients = [tf.constant([i, i + 0.5]) for i in range(1, 5)]
    optimizer.apply(gradients, variables)
    after_one_step = numpy(variables)
    optimizer.apply(gradients)
    after_two_steps = numpy(variables)
    optimizer.finalize_variable_values([second, phi, first])
    assert_same([frozen], [after_two_steps[1]])
    # The average starts at the first value, then goes 1 - 0.99 of the way to the next.
    averages = [a - 0.01 * g.numpy() for a, g in zip(after_one_step, gradients, strict=True)]
    assert_close([first, phi, second], [averages[0], averages[2], averages[3]])


def test_exclusion_from_weight_decay_reaches_both_optimizers():
    theta, bias, phi, phi_bias = (
        keras.Variable([1.0], name=name) for name in ("theta", "bias", "phi", "phi_bias")
    )
    mark_surrogate_variables([phi, phi_bias])
    variables = [theta, bias, phi, phi_bias]
    optimizer = RelaxOptimizer(
        sgd(0.5, weight_decay=0.5), surrogate_optimizer=sgd(0.5, weight_decay=1.0)
    )
    optimizer.exclude_from_weight_decay(var_list=[phi], var_names=["bias"])
    optimizer.apply([tf.zeros(1)] * 4, variables)
    assert_same(variables, [[0.75], [1.0], [1.0], [1.0]])
    with_decay = RelaxOptimizer("sgd", surrogate_optimizer=sgd(0.5, weight_decay=1.0))
    with_decay.exclude_from_weight_decay(var_names=["bias"])
    with_decay.apply([tf.zeros(1)] * 4, variables)
    assert_same([phi, phi_bias], [[0.5], [1.0]])


# ------------------------------------------------------------------------------ mixed precision


def test_loss_scaling_unscales_for_both_and_skips_both():
    theta, phi = two_variables()
    optimizer = keras.optimizers.LossScaleOptimizer(two_sgd(), initial_scale=4.0)
    optimizer.build([theta, phi])
    assert float(optimizer.scale_loss(tf.constant(1.0))) == 4.0
    step = tf.function(lambda *grads: optimizer.apply(list(grads), [theta, phi]))
    step(tf.fill([2], 4.0), tf.fill([1], 4.0))
    assert_same([theta, phi], [[0.75, 0.75], [0.5]])
    step(tf.fill([2], 4.0), tf.constant([np.nan]))
    assert_same([theta, phi], [[0.75, 0.75], [0.5]])
    assert int(optimizer.inner_optimizer.iterations) == 1
    assert float(optimizer.dynamic_scale) == 2.0
    optimizer.learning_rate = 0.125
    assert float(optimizer.inner_optimizer.optimizer.learning_rate) == 0.125


def test_mixed_float16_model_trains_and_reloads(tmp_path):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model(RelaxOptimizer(adam(0.01, use_ema=True)), jit_compile=False)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        fit(model)
        assert all(np.isfinite(v).all() for v in numpy(model.weights))
        inner = model.optimizer.inner_optimizer
        # The first scale is too large for this loss: Keras skips that step, for both.
        assert int(inner.iterations) == int(inner.surrogate_optimizer.iterations) == 2
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert_same_state(loaded, model)
    finally:
        keras.config.set_dtype_policy(previous)
