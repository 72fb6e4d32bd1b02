"""Models with a `compute_loss` of their own."""

import keras
import pytest

from tests.models import modes
from tests.training.objectives import PREDICTION, TARGET, assert_f, run
from tf_relax._src.training.objective import per_example_objective


class Overridden(keras.Model):
    """A model with a `compute_loss` of its own."""

    passes_on = True

    def call(self, x):
        return x

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        per_example = keras.ops.sum(keras.ops.abs(y - y_pred), axis=-1)
        if self.passes_on:
            per_example *= sample_weight
        return keras.ops.mean(per_example)


@modes
def test_compute_loss_of_the_user(mode):
    model = Overridden()
    model.compile("sgd")
    result = run(lambda: per_example_objective(model, PREDICTION, TARGET, PREDICTION, None), mode)
    assert_f(result, [1.0, 6.0, 2.0])


@modes
@pytest.mark.parametrize("loss", ["mse", None], ids=["loss", "no_loss"])
def test_compute_loss_that_ignores_the_weights(loss, mode):
    model = Overridden()
    model.passes_on = False
    model.compile("sgd", loss=loss)
    with pytest.raises(ValueError, match="pass `sample_weight` on in `compute_loss`"):
        run(lambda: per_example_objective(model, PREDICTION, TARGET, PREDICTION, None), mode)
