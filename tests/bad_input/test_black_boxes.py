"""Black boxes where a gradient is needed, and those that return something else."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.bad_input.models import encoder, functional, refuses, two_outputs, unchanged
from tests.models import bernoulli, costs, relax, run_modes
from tf_relax import RelaxModel, estimators
from tf_relax.layers import RelaxCategorical
from tf_relax.losses import BlackBox
from tf_relax.surrogates import Network

DIFFERENTIATING = {
    "concrete",
    "double_cv",
    "gumbel_straight_through",
    "muprop",
    "rebar",
    "reinmax",
    "rejection",
    "reparameterization",
    "rodeo",
    "straight_through",
}


def test_these_estimators_and_no_others_differentiate_the_objective():
    names = {n for n in estimators.names() if estimators.get(n).needs_differentiable_objective}
    assert names == DIFFERENTIATING


@pytest.mark.parametrize("estimator", sorted(DIFFERENTIATING))
@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside_another"])
def test_estimators_that_differentiate_refuse_a_black_box(estimator, others):
    loss = BlackBox(costs, name="cost")
    model = two_outputs(dict) if others else functional(bernoulli())
    loss = {"a": "mse", "b": loss} if others else loss
    with (
        unchanged(model),
        pytest.raises(ValueError, match=r"'cost' is a BlackBox.*relax.*reinforce"),
    ):
        model.compile("sgd", loss, estimator=estimator)


NO_OBJECTIVE = "surrogate, Objective.*RelaxBernoulli 'code'.*BlackBox.*surrogate='network'"


@pytest.mark.parametrize("estimator", ["Relax", "Dlax"])
def test_surrogate_that_needs_what_a_black_box_does_not_give(estimator):
    model = encoder(bernoulli())
    estimator = getattr(estimators, estimator)(surrogate="objective")
    with unchanged(model), pytest.raises(ValueError, match=NO_OBJECTIVE):
        model.compile("sgd", BlackBox(costs), estimator=estimator)
    assert model.estimator is None


@run_modes
def test_surrogate_that_needs_what_a_black_box_does_not_give_to_an_unbuilt_model(run_eagerly):
    model = RelaxModel([keras.layers.Dense(4), bernoulli()])
    model.compile("sgd", BlackBox(costs), estimator=relax(), run_eagerly=run_eagerly)
    refuses(ValueError, NO_OBJECTIVE, model)


def test_surrogate_that_needs_what_indices_do_not_give():
    inputs = keras.Input((3,))
    index = RelaxCategorical(output="index", name="kind")(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, keras.layers.Embedding(4, 4)(index))
    message = "surrogate, Objective.*RelaxCategorical 'kind'.*indices.*surrogate='network'"
    with unchanged(model), pytest.raises(ValueError, match=message):
        model.compile("sgd", "mse", estimator=relax())
    model.compile("sgd", "mse", estimator=relax(surrogate="network"))


def test_black_box_does_not_compile():
    model = functional(bernoulli())
    with (
        unchanged(model),
        pytest.raises(ValueError, match=r"'cost' is a BlackBox.*jit_compile=False"),
    ):
        model.compile("sgd", BlackBox(costs, name="cost"), jit_compile=True)


@run_modes
@pytest.mark.parametrize(
    ("wrong", "shape"),
    [
        (lambda y_true, y_pred: costs(y_true, y_pred).mean(), r"\(\)"),
        (lambda y_true, y_pred: np.abs(y_true - y_pred), r"\(4, 4\)"),
        (lambda y_true, y_pred: costs(y_true, y_pred)[:2], r"\(2,\)"),
        (lambda y_true, y_pred: costs(y_true, y_pred)[:, None], r"\(4, 1\)"),
    ],
    ids=["scalar", "elements", "too_few", "column"],
)
def test_black_box_of_the_wrong_shape(wrong, shape, run_eagerly):
    model, estimator = encoder(bernoulli()), relax(surrogate=Network(units=(2,)))
    loss = BlackBox(wrong, name="cost")
    model.compile("sgd", loss, estimator=estimator, run_eagerly=run_eagerly)
    message = rf"BlackBox 'cost' needs one cost per example, shape \(4,\).*returned shape {shape}"
    # TensorFlow turns the ValueError into one of its own on the way through the graph.
    refuses((ValueError, tf.errors.InvalidArgumentError), message, model)


@run_modes
def test_black_box_that_raises(run_eagerly):
    def broken(y_true, y_pred):
        raise ZeroDivisionError("out of apples")

    model, estimator = encoder(bernoulli()), relax(surrogate=Network(units=(2,)))
    model.compile("sgd", BlackBox(broken), estimator=estimator, run_eagerly=run_eagerly)
    refuses((ZeroDivisionError, tf.errors.OpError), "out of apples", model)
