"""What the tests of several folders build, and the ways in which they run it."""

import keras
import numpy as np
import pytest

from tf_relax import estimators
from tf_relax.layers import RelaxBernoulli, RelaxNormal

modes = pytest.mark.parametrize("mode", ["eager", "graph"])
run_modes = pytest.mark.parametrize("run_eagerly", [True, False], ids=["eager", "graph"])


def bernoulli(**arguments):
    return RelaxBernoulli(**{"name": "code", **arguments})


def normal(**arguments):
    return RelaxNormal(**{"name": "code", **arguments})


def relax(**arguments):
    return estimators.Relax(**{"surrogate": "objective", **arguments})


def costs(y_true, y_pred):
    """One value per example that only NumPy can compute."""
    return np.abs(y_true - y_pred).sum(axis=1)


def scalar_loss(y_true, y_pred):
    return keras.ops.mean((y_true - y_pred) ** 2)
