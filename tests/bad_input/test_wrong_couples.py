"""Estimators and layers that do not go together."""

import contextlib

import keras
import numpy as np
import pytest

from tests.bad_input.models import X, Y, functional, refuses
from tests.models import bernoulli, normal, relax, run_modes
from tf_relax import RelaxModel, estimators
from tf_relax.layers import RelaxBernoulli, RelaxNormal

REFUSED = {
    RelaxBernoulli: {
        "disarm_tree",
        "lax",
        "measure_valued",
        "rejection",
        "reparameterization",
        "sb_carms",
        "unordered_set",
    },
    RelaxNormal: {
        "arms",
        "concrete",
        "disarm",
        "disarm_tree",
        "double_cv",
        "exact",
        "gumbel_straight_through",
        "measure_valued",
        "muprop",
        "rebar",
        "reinmax",
        "rejection",
        "relax",
        "rodeo",
        "sb_carms",
        "straight_through",
        "unordered_set",
    },
}


MAKE = {RelaxBernoulli: bernoulli, RelaxNormal: normal}


@pytest.mark.parametrize("layer_class", REFUSED)
def test_these_couples_and_no_others_are_refused(layer_class):
    for name in estimators.names():
        refused = name in REFUSED[layer_class]
        with pytest.raises(ValueError, match="'code'") if refused else contextlib.nullcontext():
            estimators.get(name).check(MAKE[layer_class]())


@run_modes
@pytest.mark.parametrize(
    ("layer_class", "name"),
    [(layer_class, name) for layer_class, names in REFUSED.items() for name in sorted(names)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_estimator_and_layer_that_do_not_go_together(layer_class, name, run_eagerly):
    model = functional(MAKE[layer_class]())
    model.compile("sgd", "mse", estimator=name, run_eagerly=run_eagerly)
    estimator = type(estimators.get(name)).__name__
    refuses(ValueError, rf"{estimator}\(.*{layer_class.__name__} 'code'.*Use '", model)


def test_one_layer_of_two_that_does_not_go_with_the_estimator():
    inputs = keras.Input((3,))
    both = [
        bernoulli(name="bits")(keras.layers.Dense(2)(inputs)),
        normal(name="reals")(keras.layers.Dense(4)(inputs)),
    ]
    model = RelaxModel(inputs, keras.layers.Dense(4)(keras.layers.Concatenate()(both)))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=True)
    refuses(ValueError, r"Relax\(.*RelaxNormal 'reals'", model)
    model.compile("sgd", "mse", estimator="lax", run_eagerly=True)
    refuses(ValueError, r"Lax\(.*RelaxBernoulli 'bits'", model)
    model.compile("sgd", "mse", estimator="dlax", run_eagerly=True)
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()
