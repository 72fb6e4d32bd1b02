"""RelaxModel in eager code, in graphs and compiled by XLA."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.models import (
    X,
    Y,
    assign,
    changed,
    compile_model,
    fit,
    functional,
    held,
    numpy,
    with_surrogate,
)
from tf_relax import estimators
from tf_relax.surrogates import is_surrogate_variable


@pytest.mark.parametrize(
    "arguments",
    [{"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}],
    ids=["eager", "graph", "xla"],
)
def test_gradients_are_those_of_the_noise_in_every_way_to_run(arguments, rng):
    """The same noise makes eager, graph and XLA comparable, whose random numbers differ."""
    model = functional(name="code")
    compile_model(model, keras.optimizers.SGD(0.1), **arguments)
    noise = [rng.normal(size=(4, 2)).astype("float32")]
    assign(held(model), [rng.normal(size=v.shape) for v in held(model)])
    expected = model.differentiate(tf.constant(X[:4]), tf.constant(Y[:4]), noise=noise)

    def step(x, y):
        return model.differentiate(x, y, noise=noise).gradients

    if "run_eagerly" not in arguments:
        step = tf.function(step, jit_compile=arguments["jit_compile"])
    for actual, gradient in zip(
        step(tf.constant(X[:4]), tf.constant(Y[:4])), expected.gradients, strict=True
    ):
        np.testing.assert_allclose(actual, gradient, rtol=1e-4, atol=1e-6)


def test_compiled_training_loop():
    """One XLA program per batch size, the last and smaller one included."""
    model = compile_model(functional(), metrics=["mae"], jit_compile=True)
    before = numpy(model.trained_variables)
    history = fit(model, epochs=2)
    assert set(history) == {"loss", "mae"}
    assert np.isfinite(list(history.values())).all()
    assert all(changed(before, numpy(model.trained_variables)))


OBJECTIVE = {"log_temperature", "scale"}


@pytest.mark.parametrize(
    ("estimator", "learned"),
    [
        ("relax", OBJECTIVE | {"intercept"}),
        ("rebar", OBJECTIVE),
        ("dlax", OBJECTIVE | {"intercept"}),
        ("nvil", {"intercept"}),
        ("double_cv", {"alpha"}),
        ("rodeo", {"inner_scale", "outer_scale", "kernel", "bias"}),
        ("reinforce", set()),
        ("concrete", set()),
        ("straight_through", set()),
        ("leave_one_out", set()),
        ("disarm", set()),
    ],
)
def test_every_estimator_trains_its_own_variables_in_graph_mode(estimator, learned):
    estimator = with_surrogate(estimators.get(estimator), "objective")
    model = compile_model(functional(), estimator=estimator, jit_compile=False)
    state = model.estimator_state
    both = (model.trainable_variables, state.trainable_variables)
    before = [numpy(variables) for variables in both]
    with warnings.catch_warnings():
        # Keras might mention variables that get no gradient.
        warnings.simplefilter("error")
        fit(model)
    trained = []
    for variables, values in zip(both, before, strict=True):
        moved = zip(variables, changed(values, numpy(variables)), strict=True)
        trained.append({variable.name for variable, m in moved if m})
    assert trained == [{"kernel", "bias", "prior_logits"}, learned]
    assert {v.name for v in model.trained_variables} == trained[0] | trained[1]
    assert not any(is_surrogate_variable(v) for v in model.weights)
    assert all(is_surrogate_variable(v) for v in state.variables)
