"""RelaxModel as a Keras model: every style of building."""

import itertools

import keras
import numpy as np
import pytest

from tests.models import relax, run_modes
from tests.training.models import (
    STYLES,
    Own,
    X,
    Y,
    bernoulli,
    changed,
    compile_model,
    fit,
    functional,
    numpy,
    sequential,
    styles,
)
from tf_relax import RelaxModel
from tf_relax.losses import BernoulliNLL


@styles
def test_every_style_trains_every_variable(style):
    model = compile_model(STYLES[style]())
    model(X)
    before, bases = numpy(model.trained_variables), RelaxModel.__bases__
    history = fit(model, epochs=2)
    assert np.isfinite(history["loss"]).all()
    assert all(changed(before, numpy(model.trained_variables)))
    assert isinstance(model, RelaxModel)
    assert RelaxModel.__bases__ == bases
    assert len(model.stochastic_layers) == 1
    assert model.predict(X, verbose=0).shape == (10, 3)


@styles
def test_an_unbuilt_model_builds_itself_in_the_first_step(style):
    model = compile_model(STYLES[style]())
    fit(model)
    assert model.built
    assert len(model.trained_variables) == 4 + 1 + 3  # dense layers, prior, surrogate
    assert int(model.optimizer.iterations.numpy()) == 3


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_styles_do_not_touch_one_another(order):
    class Fresh(RelaxModel):
        """No style has been built from this class before."""

    class FreshSubclassed(Fresh):
        def __init__(self):
            super().__init__()
            self.layer = bernoulli()

        def call(self, x):
            return self.layer(x)

    class FreshBuildsItself(Fresh):
        def __init__(self):
            inputs = keras.Input((3,))
            super().__init__(inputs, bernoulli()(inputs))

    builders = [
        lambda: Fresh(inputs := keras.Input((3,)), bernoulli()(inputs)),
        lambda: Fresh([bernoulli()]),
        FreshSubclassed,
        FreshBuildsItself,
    ]
    models = [builders[k]() for k in order] + [builders[k]() for k in order]
    for model in models:
        assert isinstance(model, Fresh)
        assert model(X).shape == (10, 3)
    assert Fresh.__bases__ == (RelaxModel,)
    assert FreshSubclassed.__bases__ == FreshBuildsItself.__bases__ == (Fresh,)
    assert RelaxModel.__mro__[-len(keras.Model.__mro__) :] == keras.Model.__mro__
    functional_model, sequential_model = (models[order.index(k)] for k in (0, 1))
    assert isinstance(sequential_model, keras.Sequential)
    assert not isinstance(functional_model, keras.Sequential)
    assert functional_model.inputs[0].shape == (None, 3)


def test_constructor_arguments_that_only_look_functional():
    """Two positional arguments, or a list, belong to a constructor that asks for them."""

    class Layers(RelaxModel):
        def __init__(self, units, layer):
            super().__init__()
            self.encoder = [keras.layers.Dense(size) for size in units]
            self.code = layer

        def call(self, x):
            for dense in self.encoder:
                x = dense(x)
            return self.code(x)

    class OnlyList(Layers):
        def __init__(self, units):
            super().__init__(units, bernoulli())

    for model in (Layers([4, 3], bernoulli()), Layers(units=[4, 3], layer=bernoulli())):
        assert fit(compile_model(model))["loss"]
    model = OnlyList([4, 3])
    assert not isinstance(model, keras.Sequential)
    assert fit(compile_model(model))["loss"]


def test_methods_of_a_subclass_survive_every_style():
    assert functional(Own).own() == sequential(Own).own() == "own"
    assert type(functional(Own)).__name__ == type(sequential(Own)).__name__ == "Own"
    assert functional().__class__.__name__ == "RelaxModel"


def test_functional_model_with_keywords_and_names():
    inputs = keras.Input((3,), name="image")
    model = RelaxModel(inputs=inputs, outputs={"code": bernoulli()(inputs)}, name="named")
    assert model.name == "named"
    assert list(model(X)) == ["code"]


def test_layers_are_added_to_a_sequential_model():
    model = RelaxModel([], name="growing")
    model.add(keras.layers.Dense(2))
    model.add(bernoulli())
    model.add(keras.layers.Dense(3))
    compile_model(model)
    assert np.isfinite(fit(model)["loss"]).all()


def test_functional_models_are_cloned_with_their_class():
    model = functional(Own)
    clone = keras.models.clone_model(model)
    assert isinstance(clone, Own)
    assert fit(compile_model(clone))["loss"]


def test_a_model_inside_a_model():
    inner = functional()
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, keras.layers.Dense(3)(bernoulli()(inner(inputs))))
    assert len(model.stochastic_layers) == 2
    compile_model(model)
    model(X)
    before = numpy(model.trained_variables)
    fit(model)
    assert all(changed(before, numpy(model.trained_variables)))


@run_modes
def test_structured_inputs_and_outputs(run_eagerly):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    code = bernoulli()(keras.layers.Dense(2)(keras.layers.Concatenate()([a, b])))
    outputs = {"p": keras.layers.Dense(3)(code), "q": keras.layers.Dense(1)(code)}
    model = RelaxModel({"a": a, "b": b}, outputs)
    model.compile(
        "adam",
        {"p": BernoulliNLL(), "q": "mse"},
        loss_weights={"p": 1.0, "q": 2.0},
        metrics={"q": ["mae"]},
        estimator=relax(),
        run_eagerly=run_eagerly,
    )
    x, y = {"a": X, "b": X[:, :2]}, {"p": Y, "q": Y[:, :1]}
    history = model.fit(x, y, batch_size=4, verbose=0, validation_data=(x, y)).history
    expected = {"loss", "p_loss", "q_loss", "q_mae"}
    assert set(history) == expected | {f"val_{name}" for name in expected}
    assert np.isfinite(list(history.values())).all()


def test_losses_are_matched_with_outputs_by_name():
    """The order of the outputs is not that of the alphabet, nor has each output a loss."""
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(2)(inputs))
    units = {"z": 3, "a": 2, "m": 1}
    model = RelaxModel(inputs, [keras.layers.Dense(n, name=k)(code) for k, n in units.items()])
    labels = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = {"z": BernoulliNLL(), "a": labels, "m": keras.losses.MeanSquaredError()}
    y = [Y, Y[:, 0].astype("int32"), Y[:, :1]]
    model.compile("adam", losses, estimator=relax(), run_eagerly=True)
    history = model.fit(X, y, batch_size=4, verbose=0).history
    assert set(history) == {"loss", "z_loss", "a_loss", "m_loss"}
    assert np.isfinite(list(history.values())).all()
