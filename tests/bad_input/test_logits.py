"""Logits of the wrong type, size or value."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.bad_input.models import X, functional, refuses
from tests.models import bernoulli, relax, run_modes
from tf_relax import RelaxModel


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_logits_that_are_no_floats(dtype):
    with pytest.raises(TypeError, match=f"RelaxBernoulli 'code'.*{dtype}.*Dense"):
        bernoulli()(tf.zeros((2, 3), dtype))


def test_integer_logits_in_a_model():
    inputs = keras.Input((3,), dtype="int32")
    model = RelaxModel(inputs, keras.layers.Dense(4)(bernoulli()(inputs)))
    model.compile("sgd", "mse", estimator=relax())
    refuses(TypeError, "RelaxBernoulli 'code'.*int32", model, X.astype("int32"))


@run_modes
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite(bad, run_eagerly):
    model = functional(bernoulli(check_numerics=True))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    x = X.copy()
    x[1, 2] = bad
    refuses(tf.errors.InvalidArgumentError, "RelaxBernoulli 'code'.*(NaN|Inf)", model, x)


def test_scalar_logits():
    with pytest.raises(ValueError, match=r"RelaxBernoulli 'code'.*\[batch, \*event\].*scalar"):
        bernoulli()(tf.zeros(()))


def test_a_learned_prior_of_unknown_size():
    with pytest.raises(ValueError, match=r"RelaxBernoulli 'code'.*learned prior.*fix.*'uniform'"):
        bernoulli(prior="learned")(keras.Input((None, 2)))


@pytest.mark.parametrize("surrogate", ["network", "sum"])
def test_a_surrogate_network_of_unknown_size(surrogate):
    inputs = keras.Input((None, 2))
    model = RelaxModel(inputs, bernoulli()(inputs))
    with pytest.raises(ValueError, match=r"network.*fixed size.*fix.*surrogate='objective'"):
        model.compile("sgd", "mse", estimator=relax(surrogate=surrogate))
    assert model.estimator is None
    model.compile("sgd", "mse", estimator=relax())
