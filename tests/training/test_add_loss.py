"""What layers add to the loss, as part of the objective."""

import keras
import numpy as np
import pytest

from tests.models import modes
from tests.training.objectives import PREDICTION, SQUARED, TARGET, assert_f, combine, run
from tf_relax._src.training.objective import per_example_objective


class AddLoss(keras.layers.Layer):
    """Adds a function of its input to the loss."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        self.add_loss(self.function(x))
        return x


def objective_with_add_loss(function, mode, loss="mse", regularizer=None):
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(2, use_bias=False, kernel_regularizer=regularizer)
    outputs = AddLoss(function)(dense(inputs))
    model = keras.Model(inputs, outputs)
    dense.kernel.assign(np.eye(2))
    model.compile("sgd", loss=loss)

    def objective():
        y = None if loss is None else TARGET
        return per_example_objective(model, PREDICTION, y, model(PREDICTION), None)

    return run(objective, mode)


@modes
def test_add_loss_per_example(mode):
    result = objective_with_add_loss(lambda x: keras.ops.sum(x, axis=-1) / 3, mode)
    # Keras sums over the batch what it is given: a third of (1, 6, 2).
    assert_f(result, combine((1, SQUARED), (1, [1.0, 6.0, 2.0])))
    np.testing.assert_allclose(result.loss, np.mean(result.f), rtol=1e-6)


@modes
def test_add_loss_per_element(mode):
    result = objective_with_add_loss(lambda x: x / 3, mode)
    assert_f(result, combine((1, SQUARED), (1, [1.0, 6.0, 2.0])))


@modes
def test_add_loss_alone(mode):
    result = objective_with_add_loss(lambda x: keras.ops.sum(x, axis=-1) / 3, mode, loss=None)
    assert_f(result, [1.0, 6.0, 2.0])


@modes
def test_scalars_stay_outside_of_the_examples_but_in_the_loss(mode):
    def scalar(x):
        return keras.ops.convert_to_tensor(7.0)

    result = objective_with_add_loss(scalar, mode, regularizer=keras.regularizers.L2(0.5))
    assert_f(result, SQUARED)
    assert sorted(float(term) for term in result.shared) == [1.0, 7.0]  # 0.5 * |identity|^2
    np.testing.assert_allclose(result.loss, np.mean(SQUARED) + 8, rtol=1e-6)


@modes
@pytest.mark.parametrize("size", [1, 2])
def test_add_loss_that_is_neither_scalar_nor_per_example(size, mode):
    """One element would broadcast: every example would be charged with all of it."""
    with pytest.raises(ValueError, match=r"add_loss.*batch|batch.*add_loss"):
        objective_with_add_loss(lambda x: keras.ops.ones((size,)), mode)
