"""One value per example of models with several outputs, each with its loss."""

import numpy as np
import pytest

from tests.models import modes
from tests.training.objectives import PREDICTION, SQUARED, TARGET, assert_f, combine, objective_of

PREDICTIONS = {"a": PREDICTION, "b": PREDICTION + 1}
TARGETS = {"a": TARGET, "b": TARGET}
SQUARED_B = [(1 + 4) / 2, (9 + 25) / 2, (1 + 1) / 2]
ABSOLUTE_B = [(1 + 2) / 2, (3 + 5) / 2, (1 + 1) / 2]


@modes
@pytest.mark.parametrize("container", [dict, list])
def test_one_loss_per_output(container, mode):
    y_pred, y, loss = PREDICTIONS, TARGETS, {"a": "mse", "b": "mae"}
    if container is list:
        y_pred, y, loss = (list(tree.values()) for tree in (y_pred, y, loss))
    result = objective_of(y_pred, y, mode, loss=loss)
    assert_f(result, combine((1, SQUARED), (1, ABSOLUTE_B)))


@modes
@pytest.mark.parametrize("container", [dict, list])
def test_loss_weights(container, mode):
    y_pred, y, loss, weights = PREDICTIONS, TARGETS, {"a": "mse", "b": "mae"}, {"a": 0.5, "b": 3.0}
    if container is list:
        y_pred, y, loss, weights = (list(tree.values()) for tree in (y_pred, y, loss, weights))
    result = objective_of(y_pred, y, mode, loss=loss, loss_weights=weights)
    assert_f(result, combine((0.5, SQUARED), (3, ABSOLUTE_B)))


@modes
def test_the_same_loss_for_all_outputs(mode):
    result = objective_of(PREDICTIONS, TARGETS, mode, loss={"a": "mse", "b": "mse"})
    assert_f(result, combine((1, SQUARED), (1, SQUARED_B)))


@modes
def test_output_without_loss(mode):
    y_pred, y = list(PREDICTIONS.values()), list(TARGETS.values())
    assert_f(objective_of(y_pred, y, mode, loss=["mse", None]), SQUARED)


@modes
def test_sample_weight_for_all_outputs(mode):
    weight = np.array([2.0, 0.0, 1.0], "float32")
    result = objective_of(PREDICTIONS, TARGETS, mode, weight, loss={"a": "mse", "b": "mae"})
    assert_f(result, weight * combine((1, SQUARED), (1, ABSOLUTE_B)))


@modes
@pytest.mark.parametrize("container", [dict, list])
def test_sample_weight_per_output(container, mode):
    weights = {"a": np.array([2.0, 0, 1], "float32"), "b": np.array([0.0, 1, 4], "float32")}
    y_pred, y, loss = PREDICTIONS, TARGETS, {"a": "mse", "b": "mae"}
    expected = combine((weights["a"], SQUARED), (weights["b"], ABSOLUTE_B))
    if container is list:
        y_pred, y, loss, weights = (list(t.values()) for t in (y_pred, y, loss, weights))
    assert_f(objective_of(y_pred, y, mode, weights, loss=loss), expected)


@modes
def test_sample_weight_for_some_outputs_only(mode):
    weight = np.array([2.0, 0.0, 1.0], "float32")
    y_pred, y = list(PREDICTIONS.values()), list(TARGETS.values())
    result = objective_of(y_pred, y, mode, [weight, None], loss=["mse", "mae"])
    assert_f(result, combine((weight, SQUARED), (1, ABSOLUTE_B)))
