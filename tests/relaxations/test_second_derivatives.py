"""What the temperature learns from: the second derivative of an objective at relaxed samples."""

import numpy as np
import pytest
import tensorflow as tf

from tests.relaxations.families import FAMILIES, Family
from tf_relax import layers

MANY = Family("top_5_of_30", lambda **kwargs: layers.RelaxTopK(5, **kwargs), (30,), 17_100_720)


def squared_derivative(relaxation, z, temperature):
    """Returns sum (df/dz)^2, for a smooth f of relaxed samples, and its derivative in t."""
    with tf.GradientTape() as outer:
        outer.watch(temperature)
        with tf.GradientTape() as tape:
            tape.watch(z)
            y = relaxation.relax(z, temperature)
            weights = np.random.default_rng(1).normal(size=y.shape[1:])
            f = tf.reduce_sum(tf.sin(y * tf.constant(weights, y.dtype)))
        squared = tf.reduce_sum(tf.square(tape.gradient(f, z)))
    return outer.gradient(squared, temperature)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "XLA"])
@pytest.mark.parametrize("family", [*FAMILIES, MANY], ids=lambda family: family.name)
def test_float32_agrees_with_float64(family, jit_compile, rng):
    """Where one item has nearly all, what is left of it is far below the roundings of 1."""
    relaxation = family.relaxation
    if relaxation.initial_temperature is None:
        pytest.skip("has no temperature")
    shape = [100, *relaxation.relaxed_shape(tf.TensorShape([None, *family.event]))[1:]]
    derivative = tf.function(
        lambda z, t: squared_derivative(relaxation, z, t), jit_compile=jit_compile
    )
    for scale in (1.0, 10.0):
        z = scale * rng.gumbel(size=shape)
        found, exact = (
            derivative(tf.constant(z, dtype), tf.constant(relaxation.initial_temperature, dtype))
            for dtype in (tf.float32, tf.float64)
        )
        np.testing.assert_allclose(found, exact, rtol=0.02, atol=1e-3)
