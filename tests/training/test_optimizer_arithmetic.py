"""What options of Keras's optimizers do to gradients that are known exactly."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax

pytestmark = pytest.mark.usefixtures("float64")

RATE = 0.1


def model_with(optimizer):
    """A model whose gradient has no noise, by enumeration of four outcomes."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((3,))
    code = tf_relax.layers.RelaxBernoulli(prior="learned")(keras.layers.Dense(2)(inputs))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(2)(code))
    model.compile(optimizer, loss="mse", estimator="exact", run_eagerly=True)
    return model


def batches(count):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(4, 3)), 5 + rng.normal(size=(4, 2))) for _ in range(count)]


def numbers(variables):
    return [tf.convert_to_tensor(v).numpy().copy() for v in variables]


def after(optimizer, count):
    model = model_with(optimizer)
    for x, y in batches(count):
        model.train_on_batch(x, y)
    return numbers(model.trainable_variables)


def step(model, x, y):
    """Weights, and the gradient there."""
    result = model.differentiate(x, y)
    by_path = dict(zip([v.path for v in result.variables], result.gradients, strict=True))
    variables = model.trainable_variables
    return numbers(variables), numbers(by_path[v.path] for v in variables)


def assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def test_accumulation_is_the_mean_of_the_gradients_at_the_start():
    model = model_with("sgd")
    pairs = [step(model, x, y) for x, y in batches(3)]
    start, gradients = pairs[0][0], [g for _, g in pairs]
    mean = [sum(parts) / 3 for parts in zip(*gradients, strict=True)]
    optimizer = keras.optimizers.SGD(RATE, gradient_accumulation_steps=3)
    assert_close(after(optimizer, 3), [w - RATE * g for w, g in zip(start, mean, strict=True)])
    assert_close(after(keras.optimizers.SGD(RATE, gradient_accumulation_steps=3), 2), start)


def by_value(gradients):
    return [np.clip(g, -0.1, 0.1) for g in gradients]


def by_norm(gradients):
    return [g * min(1, 0.1 / np.linalg.norm(g)) for g in gradients]


def by_global_norm(gradients):
    norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
    return [g * min(1, 0.1 / norm) for g in gradients]


@pytest.mark.parametrize(
    ("option", "clipped"),
    [("clipvalue", by_value), ("clipnorm", by_norm), ("global_clipnorm", by_global_norm)],
)
def test_clipping(option, clipped):
    start, gradients = step(model_with("sgd"), *batches(1)[0])
    expected = [w - RATE * g for w, g in zip(start, clipped(gradients), strict=True)]
    assert max(abs(g).max() for g in gradients) > 0.1  # else nothing is clipped
    assert_close(after(keras.optimizers.SGD(RATE, **{option: 0.1}), 1), expected)


def test_schedule():
    """Every step at the rate of its number."""
    rates = [0.2, 0.02, 0.02]
    model = model_with("sgd")
    for rate, (x, y) in zip(rates, batches(3), strict=True):
        weights, gradients = step(model, x, y)
        for v, w, g in zip(model.trainable_variables, weights, gradients, strict=True):
            v.assign(w - rate * g)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.2, 0.02])
    assert_close(after(keras.optimizers.SGD(schedule), 3), numbers(model.trainable_variables))


def test_moving_average_is_swapped_in_for_evaluation():
    """``ema <- m ema + (1 - m) w``, which begins with the weights after the first step."""
    model = model_with(keras.optimizers.SGD(RATE, use_ema=True, ema_momentum=0.5))
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    swap.set_model(model)
    swap.set_params({"epochs": 3})
    average = None
    for x, y in batches(3):
        model.train_on_batch(x, y)
        weights = numbers(model.trainable_variables)
        average = average or weights
        average = [0.5 * a + 0.5 * w for a, w in zip(average, weights, strict=True)]
    swap.on_epoch_end(0)
    seen = numbers(model.trainable_variables)
    swap.on_epoch_begin(1)
    assert_close(seen, average)
    assert_close(numbers(model.trainable_variables), weights)
