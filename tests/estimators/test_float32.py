"""Saturated units in float32: finite gradients, equal to those of float64 with the same noise."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.estimators import one_bernoulli, one_normal
from tests.estimators.table import NORMAL, ROWS
from tf_relax.surrogates import is_surrogate_variable

LOGITS = np.array(
    [[20, 20, 20], [-20, -20, -20], [80, 80, 80], [-80, -80, -80], [80, 0, -80], [20, 0, -80]]
)
MEANS, LOG_SCALES = np.array([20, -20, 80, -80]), np.array([-1, 0, 1])
DRAWS = 10


def in_both(build):
    """The model in float64, then in float32, with weights that are equal."""
    models = []
    for dtype in ("float64", "float32"):
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        models.append(build())
    double, single = models
    single.set_weights(double.get_weights())
    double.set_weights([weight.astype("float64") for weight in single.get_weights()])
    return double, single


@functools.cache
def bernoulli_models():
    return in_both(lambda: one_bernoulli.one_bernoulli(units=3))


@functools.cache
def normal_models():
    # Not the cached one: that is made once, in whichever precision comes first.
    return in_both(one_normal.one_normal.__wrapped__)


def steps(module, models, row, x, noise, conditional):
    """The same step in float64 and in float32."""
    found = []
    for model, dtype in zip(models, ("float64", "float32"), strict=True):
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        module.compiled(model, row.estimator, importance_samples=row.importance_samples)
        given = [[None if n is None else tf.cast(n, dtype)] for n in (noise, conditional)]
        step = model.differentiate(
            tf.cast(x, dtype),
            tf.fill((len(x), 1), tf.constant(0.3, dtype)),
            noise=given[0],
            conditional_noise=None if conditional is None else given[1],
        )
        found.append(step)
    return found


def assert_close(double, single):
    """Within 1e-4 of the scale of the gradient, or of 1; surrogates, fed logits of 80, 1e-3."""
    names = [variable.path for variable in single.variables]
    surrogates = {v.path for v in single.variables if is_surrogate_variable(v)}
    pairs = list(zip(names, double.gradients, single.gradients, strict=True))
    pairs.append(("logits", double.logit_gradients[0], single.logit_gradients[0]))
    for name, expected, found in pairs:
        if expected is None:
            assert found is None
            continue
        assert found.dtype == tf.float32
        assert np.isfinite(found).all(), name
        error = np.abs(found.numpy() - expected.numpy()).max()
        tolerance = 1e-3 if name in surrogates else 1e-4
        assert error <= tolerance * max(1, np.abs(expected).max()), name


def single_precision(rng, sampler, count, shape):
    """Noise `[count, *shape]`, or `shape` for one, that float32 represents."""
    noise = sampler(size=(count, *shape)).astype("float32")
    return noise if count > 1 else noise[0]


@pytest.mark.parametrize("row", [row for row in ROWS if row.one_unit], ids=repr)
def test_saturated_bernoullis(row):
    rng = np.random.default_rng(1)
    x = np.repeat(LOGITS, DRAWS, axis=0)
    noise = single_precision(rng, rng.logistic, row.samples, x.shape)
    count = row.estimator.num_z_tildes * row.estimator.num_passes
    conditional = single_precision(rng, rng.logistic, count, x.shape) if count else None
    assert_close(*steps(one_bernoulli, bernoulli_models(), row, x, noise, conditional))


@pytest.mark.parametrize("row", NORMAL, ids=repr)
def test_normals_far_out(row):
    rng = np.random.default_rng(1)
    x = np.stack(np.meshgrid(MEANS, LOG_SCALES), axis=-1).reshape(-1, 2)
    x = np.repeat(x, DRAWS, axis=0)
    noise = single_precision(rng, rng.standard_normal, row.samples, (len(x), 1))
    assert_close(*steps(one_normal, normal_models(), row, x, noise, None))
