"""Keras models as surrogates."""

import keras
import numpy as np
import pytest

from tests.models import run_modes
from tests.surrogates.models import (
    assert_all_change,
    critic,
    fit,
    relax_model,
    surrogate_of,
    values,
    weights,
)
from tf_relax import RelaxOptimizer
from tf_relax.losses import BernoulliNLL
from tf_relax.surrogates import KerasModel


@run_modes
@pytest.mark.parametrize(
    ("sizes", "looks_at"),
    [((), ()), ((4,), ("logits",)), ((4, 3), ("logits", "context"))],
    ids=["z", "logits", "context"],
)
def test_keras_model_trains_as_a_surrogate(sizes, looks_at, run_eagerly):
    model = relax_model(critic(*sizes), context=True, run_eagerly=run_eagerly)
    surrogate = surrogate_of(model)
    assert isinstance(surrogate, KerasModel)
    assert surrogate.looks_at == looks_at
    variables = surrogate.trainable_variables
    assert len(variables) == 4 + 1  # two dense layers, the intercept
    trained = {id(v) for v in model.trained_variables}
    assert {id(v) for v in variables} <= trained
    assert_all_change(model, variables)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_model_that_was_not_built_is_built_by_compile(jit_compile):
    layers = [keras.layers.Dense(5, "tanh"), keras.layers.Dense(1)]
    model = relax_model(keras.Sequential(layers), run_eagerly=False, jit_compile=jit_compile)
    assert layers[0].kernel.shape == (4, 5)
    assert_all_change(model, surrogate_of(model).trainable_variables)


class Critic(keras.Model):
    """A subclassed model of z and the logits."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def build(self, shapes):
        self.dense.build((None, shapes[0][-1] + shapes[1][-1]))
        self.built = True

    def call(self, inputs):
        return self.dense(keras.ops.concatenate(inputs, axis=-1))[:, 0]


def test_subclassed_model_is_told_what_it_looks_at():
    """It does not say how many inputs it has."""
    assert KerasModel(Critic()).looks_at == ()
    model = relax_model(KerasModel(Critic(), looks_at=("logits",)))
    assert_all_change(model, surrogate_of(model).trainable_variables)


def test_value_is_that_of_the_model_plus_the_intercept(rng):
    inner = critic(4)
    surrogate = surrogate_of(relax_model(inner))
    surrogate.intercept.assign(0.75)
    z, logits = (rng.normal(size=(6, 4)).astype("float32") for _ in range(2))
    value = surrogate(z, logits)
    assert value.shape == (6,)
    np.testing.assert_allclose(value, inner([z, logits])[:, 0] + 0.75, rtol=1e-6)


@pytest.mark.parametrize(
    ("count", "looks_at"),
    [(2, ("logits",)), (3, ("logits", "context")), (4, ("logits", "context", "targets"))],
)
def test_further_inputs_are_logits_then_context_then_targets(count, looks_at):
    assert KerasModel(critic(*[2] * (count - 1))).looks_at == looks_at


def test_model_gets_z_and_then_what_it_looks_at_in_its_own_order():
    shapes = []

    class Shapes(keras.layers.Layer):
        def call(self, tensors):
            shapes.append([tensor.shape[-1] for tensor in tensors])
            return keras.ops.sum(tensors[0], axis=-1)

    inputs = [keras.Input((size,)) for size in (4, 2, 3, 4)]
    inner = keras.Model(inputs, Shapes()(inputs))
    shapes.clear()
    model = relax_model(KerasModel(inner, looks_at=("targets", "context", "logits")), context=True)
    fit(model)
    assert shapes
    assert all(shape == [4, 2, 3, 4] for shape in shapes)


@pytest.mark.parametrize("context", [False, True])
def test_keras_model_is_saved_with_its_estimator(context, tmp_path):
    model = relax_model(critic(4, 3) if context else critic(), context=context)
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    mine, theirs = surrogate_of(model), surrogate_of(loaded)
    assert isinstance(theirs, KerasModel)
    assert theirs.looks_at == mine.looks_at
    assert [v.name for v in theirs.variables] == [v.name for v in mine.variables]
    assert any((a != 0).any() for a in values(mine.variables))
    for epoch in range(2):
        if epoch:
            fit(model)
            fit(loaded)
        for a, b in zip(weights(model), weights(loaded), strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_weights_of_the_surrogate_are_not_the_objective_s():
    """With the main learning rate at zero the surrogate alone moves."""
    model = relax_model(critic())
    pair = RelaxOptimizer(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1))
    model.compile(pair, BernoulliNLL(), estimator=model.estimator, run_eagerly=True)
    others = [*model.get_layer("encoder").weights, *model.get_layer("decoder").weights]
    before = values(others)
    assert_all_change(model, surrogate_of(model).trainable_variables)
    for a, v in zip(before, others, strict=True):
        np.testing.assert_array_equal(a, v.numpy())


@pytest.mark.parametrize(
    ("sizes", "looks_at"), [((4,), ()), ((), ("logits",)), ((4,), ("logits", "targets"))]
)
def test_wrong_number_of_inputs(sizes, looks_at):
    message = rf"'critic' has {1 + len(sizes)} inputs, and is given {1 + len(looks_at)} tensors"
    with pytest.raises(ValueError, match=message):
        KerasModel(critic(*sizes), looks_at=looks_at)


def test_too_many_inputs():
    with pytest.raises(ValueError, match=r"'critic' has 5 inputs, and is given 4 tensors"):
        KerasModel(critic(4, 3, 2, 1))


def summed():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.ops.sum(inputs), name="critic")


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(inputs, [keras.layers.Dense(1)(inputs) for _ in "ab"], name="critic")


@run_modes
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: critic(outputs=2), r"\((4|None), 2\)"),
        (summed, r"\(\)"),
        (two_outputs, r"\(2, (4|None), 1\)"),
    ],
    ids=["two", "scalar", "list"],
)
def test_wrong_output_shape(make, shape, run_eagerly):
    model = relax_model(make(), run_eagerly=run_eagerly)
    with pytest.raises(ValueError, match=rf"'critic'.*one value per example.*shape {shape}"):
        fit(model)
