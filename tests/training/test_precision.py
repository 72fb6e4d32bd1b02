"""RelaxModel under every dtype policy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models import relax, run_modes
from tests.training.models import (
    X,
    Y,
    assign,
    bernoulli,
    changed,
    compile_model,
    fit,
    functional,
    held,
    numpy,
)
from tf_relax import RelaxModel, RelaxOptimizer
from tf_relax.estimators import Relax


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
@run_modes
def test_policies_train(policy, run_eagerly):
    keras.config.set_dtype_policy(policy)
    if policy == "float64":
        keras.config.set_floatx("float64")
    arguments = {"estimator": Relax(), "run_eagerly": run_eagerly, "metrics": ["mae"]}
    model = compile_model(functional(), keras.optimizers.Adam(0.01), **arguments)
    if policy == "mixed_float16":
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert isinstance(model.optimizer.inner_optimizer, RelaxOptimizer)
    before = numpy(model.trained_variables)
    history = fit(model, epochs=3)
    assert np.isfinite(list(history.values())).all()
    assert all(np.isfinite(w).all() for w in numpy(held(model)))
    assert all(changed(before, numpy(model.trained_variables)))
    compute = keras.config.dtype_policy().compute_dtype
    assert model(X).dtype == compute
    assert {v.dtype for v in model.trained_variables} == {
        "float64" if policy == "float64" else "float32"
    }


@pytest.mark.parametrize(
    ("policy", "rtol"), [("mixed_float16", 0.03), ("mixed_bfloat16", 0.2), ("float64", 1e-4)]
)
def test_gradients_under_policies_are_those_of_float32(policy, rtol, rng):
    """With the same noise, up to the rounding of the policy; the loss scale reaches them all."""
    noise = [rng.normal(size=(10, 2))]
    results, weights = [], None
    for name in ("float32", policy):
        keras.config.set_dtype_policy(name)
        if name == "float64":
            keras.config.set_floatx("float64")
        model = compile_model(functional(), estimator=relax(temperature=1.0))
        weights = weights or [rng.normal(size=v.shape) for v in held(model)]
        assign(held(model), weights)
        step = model.differentiate(tf.constant(X), tf.constant(Y), noise=noise)
        scale = float(model.optimizer.scale_loss(tf.constant(1.0)))
        assert scale == (2.0**15 if name == "mixed_float16" else 1.0)
        results.append([np.asarray(tf.cast(g, "float64")) / scale for g in step.gradients])
    for expected, actual in zip(*results, strict=True):
        error = abs(actual - expected).max()
        assert error <= rtol * abs(expected).max()


def test_float64_policy_of_a_model_in_a_float32_world():
    """The dtype of the layers differs from the default float in which losses are computed."""
    inputs = keras.Input((3,), dtype="float64")
    encoder = keras.layers.Dense(2, dtype="float64")
    code = bernoulli(dtype="float64", prior=None)(encoder(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(3, dtype="float64")(code))
    compile_model(model, estimator=Relax())
    before = numpy(model.trained_variables)
    fit(model)
    assert all(changed(before, numpy(model.trained_variables)))
