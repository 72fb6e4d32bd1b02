"""Losses of Keras that compare the examples of a batch, or return one number for it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models import bernoulli
from tests.training.habits import X, Y, compiled, fit, functional
from tf_relax import RelaxModel


def scalar_losses():
    """All losses of Keras that return one number for a batch of predictions of rank 2."""
    found = []
    for name in dir(keras.losses):
        loss = getattr(keras.losses, name)
        if isinstance(loss, type) and issubclass(loss, keras.losses.Loss):
            try:
                values = loss().call(tf.ones((4, 2)), tf.ones((4, 2)))
            except (TypeError, ValueError, NotImplementedError, tf.errors.OpError):
                continue  # other arguments, other shapes
            if len(values.shape) == 0:
                found.append(name)
    return found


def test_these_losses_and_no_others_return_a_scalar():
    assert scalar_losses() == ["Dice", "Tversky"]


@pytest.mark.parametrize("loss", ["Dice", "Tversky", "dice", "tversky"])
def test_losses_over_the_whole_batch_name_the_way_per_example(loss):
    model = compiled(functional(), loss=loss if loss.islower() else getattr(keras.losses, loss)())
    remedy = rf"keras\.losses\.{loss.capitalize()}\(axis=\(1,\)\)"
    with pytest.raises(ValueError, match=f"scalar.*{remedy}"):
        fit(model)
    per_example = getattr(keras.losses, loss.capitalize())(axis=(1,))
    compiled(model, loss=per_example)
    step = model.differentiate(X, Y)
    expected = [float(per_example(Y[k : k + 1], step.y_pred[k : k + 1])) for k in range(4)]
    assert float(step.loss) == pytest.approx(np.mean(expected), rel=1e-5)
    with pytest.raises(ValueError, match=r"the shape \(2,\).*axis=\(1,\)"):
        fit(compiled(model, loss=getattr(keras.losses, loss.capitalize())(axis=0)))


def test_the_way_per_example_of_images():
    inputs = keras.Input((2, 2, 1))
    model = RelaxModel(inputs, bernoulli()(keras.layers.Conv2D(1, 1)(inputs)))
    x = np.ones((4, 2, 2, 1), "float32")
    with pytest.raises(ValueError, match=r"Dice\(axis=\(1, 2, 3\)\)"):
        fit(compiled(model, loss=keras.losses.Dice()), x, x)
    fit(compiled(model, loss=keras.losses.Dice(axis=(1, 2, 3))), x, x)


def test_outputs_without_a_last_dimension():
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(2)(inputs))
    model = RelaxModel(inputs, keras.ops.sum(code, axis=-1))
    with pytest.raises(ValueError, match=r"'mean_squared_error'.*shape \[batch, 1\]"):
        fit(compiled(model), y=Y[:, 0])


def test_circle_compares_the_examples_of_a_batch():
    """Every example answers for all that it is compared with."""
    model = compiled(functional(), loss=keras.losses.Circle())
    labels = np.array([0, 0, 1, 1])
    assert model.differentiate(X, labels).sites.batch_coupled
    assert not compiled(model).differentiate(X, Y).sites.batch_coupled
