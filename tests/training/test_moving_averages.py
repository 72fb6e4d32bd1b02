"""Moving averages of weights, swapped in as in Keras."""

import keras
import numpy as np
import pytest

from tests.models import bernoulli
from tests.training.habits import X, Y, compiled, fit, functional, held
from tf_relax import RelaxModel, RelaxOptimizer
from tf_relax._src import compat


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_swap_ema_weights_as_in_keras(swap_on_epoch):
    """A branch of samples that the outputs ignore leaves an ordinary model."""

    def run(cls):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,))
        outputs = keras.layers.Dense(2, name="linear")(inputs)
        if cls is RelaxModel:
            outputs = outputs + 0.0 * bernoulli()(keras.layers.Dense(1)(inputs))
        model = compiled(cls(inputs, outputs), keras.optimizers.SGD(0.5, use_ema=True))
        seen = []
        callbacks = [
            keras.callbacks.SwapEMAWeights(swap_on_epoch),
            keras.callbacks.LambdaCallback(
                on_test_begin=lambda logs: seen.append(model.get_layer("linear").get_weights()[0]),
                on_epoch_end=lambda *_: seen.append(model.get_layer("linear").get_weights()[0]),
            ),
        ]
        fit(model, epochs=2, validation_data=(X, Y), callbacks=callbacks)
        return [*seen, model.get_layer("linear").get_weights()[0]], model

    expected, found = run(keras.Model)[0], run(RelaxModel)[0]
    assert len(expected) == 5
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.abs(found[2] - found[3]).max() > 1e-3 or swap_on_epoch


@pytest.mark.parametrize("averaged", ["main", "surrogate"])
def test_swap_ema_weights_of_one_optimizer_of_the_pair(averaged):
    pair = [keras.optimizers.SGD(0.5, use_ema=averaged == name) for name in ("main", "surrogate")]
    model = compiled(functional(), RelaxOptimizer(*pair))
    for _ in range(2):
        model.train_on_batch(X, Y)
    before, callback = [v.numpy() for v in held(model)], keras.callbacks.SwapEMAWeights()
    callback.set_model(model)
    callback.on_test_begin()
    swapped = [
        variable.path
        for variable, old in zip(held(model), before, strict=True)
        if (variable.numpy() != old).any()
    ]
    assert any("decoder" in path for path in swapped) == (averaged == "main")
    assert any("log_temperature" in path for path in swapped) == (averaged == "surrogate")
    callback.on_test_end()
    for old, new in zip(before, held(model), strict=True):
        np.testing.assert_allclose(old, new.numpy(), rtol=1e-6)


def test_hook_moving_averages():
    """`compat.moving_averages` finds what the optimizer keeps beside each variable."""
    variable = keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    optimizer.build([variable])
    optimizer.apply([keras.ops.ones(1)])
    assert compat.moving_averages(optimizer)[id(variable)].numpy() == pytest.approx(0.5, abs=0.51)
    assert compat.moving_averages(keras.optimizers.SGD()) == {}


def test_swap_ema_weights_without_averages():
    model = compiled(functional())
    with pytest.raises(ValueError, match="use_ema=True"):
        fit(model, validation_data=(X, Y), callbacks=[keras.callbacks.SwapEMAWeights()])
