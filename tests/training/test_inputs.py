"""Inputs that are optional, ragged or sparse."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.models import bernoulli
from tests.training.habits import X, Y, compiled, fit
from tf_relax import RelaxModel


class MaybeAdd(keras.layers.Layer):
    def call(self, x, other=None):
        return x if other is None else x + other

    def compute_output_spec(self, x, other=None):
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.parametrize("style", ["first", "last", "dict"])
@pytest.mark.parametrize("ways", [{"run_eagerly": True}, {"jit_compile": False}], ids=str)
def test_optional_inputs(style, ways):
    a, b = keras.Input((3,), name="b"), keras.Input((3,), name="a", optional=True)
    logits = keras.layers.Dense(2)(MaybeAdd()(a, b))
    outputs = keras.layers.Dense(2)(bernoulli(prior="uniform")(logits))
    inputs, without = {
        "first": ([b, a], [None, X]),
        "last": ([a, b], [X, None]),
        "dict": ({"a": b, "b": a}, {"a": None, "b": X}),
    }[style]
    model = compiled(RelaxModel(inputs, outputs), **{"run_eagerly": None, **ways})
    with_zeros = keras.tree.map_structure(lambda v: np.zeros_like(X) if v is None else v, without)
    state, losses = [v.numpy() for v in model.variables], []
    for x in (without, with_zeros):
        for variable, value in zip(model.variables, state, strict=True):
            variable.assign(value)
        losses.append(fit(model, x).history["loss"][0])
    if "run_eagerly" in ways:
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        tf_relax.audit(
            model, without, Y, ["reinforce"], num_samples=8, surrogate_steps=0, verbose=0
        )
        fit(model, without, callbacks=[tf_relax.callbacks.GradientVariance(without, Y)])
        tf_relax.metrics.importance_weighted_bound(model, without, Y, num_samples=2, verbose=0)
    model.evaluate(without, Y, verbose=0)
    model.predict(without, verbose=0)


class Pool(keras.layers.Layer):
    """Means over the words of a text."""

    def __init__(self):
        super().__init__()
        self.table = self.add_weight(shape=(5, 3), initializer="ones", name="table")

    def call(self, x):
        rows = tf.gather(tf.convert_to_tensor(self.table), x)
        return tf.reduce_mean(rows, axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 3)


@pytest.mark.parametrize("ways", [{"run_eagerly": True}, {"jit_compile": False}], ids=str)
def test_ragged_inputs(ways):
    inputs = keras.Input((None,), dtype="int32", ragged=True)
    code = bernoulli(prior="uniform")(keras.layers.Dense(2)(Pool()(inputs)))
    model = RelaxModel(inputs, keras.layers.Dense(2)(code))
    compiled(model, **{"run_eagerly": None, **ways})
    x = tf.ragged.constant([[1, 2], [3], [1, 2, 3], [4]])
    history = fit(model, x, callbacks=[tf_relax.callbacks.GradientVariance(x, Y)]).history
    assert np.isfinite(list(history.values())).all()
    model.evaluate(x, Y, verbose=0)
    assert model.predict(x, verbose=0).shape == (4, 2)
    tf_relax.audit(model, x, Y, ["disarm"], num_samples=8, surrogate_steps=1, verbose=0)
    tf_relax.metrics.importance_weighted_bound(model, x, Y, num_samples=2, verbose=0)


def test_sparse_inputs():
    inputs = keras.Input((3,), sparse=True)
    model = compiled(
        RelaxModel(inputs, keras.layers.Dense(2)(bernoulli()(keras.layers.Dense(2)(inputs))))
    )
    x = tf.sparse.from_dense(X)
    fit(model, x)
    tf_relax.audit(model, x, Y, ["reinforce"], num_samples=8, surrogate_steps=0, verbose=0)
