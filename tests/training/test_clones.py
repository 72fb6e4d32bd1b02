"""Clones of models, by Keras and by scikit-learn."""

import joblib
import keras
import numpy as np
import pytest

from tests.models import bernoulli
from tests.training.habits import (
    STYLES,
    X,
    Y,
    assert_same_state,
    compiled,
    fit,
    functional,
    sequential,
    styles,
)
from tf_relax import RelaxModel


@pytest.mark.parametrize("is_compiled", [False, True])
@styles
def test_clones_keep_their_class(style, is_compiled):
    model = STYLES[style]()
    if is_compiled:
        compiled(model, estimator="reinforce")
    model(X)
    clone = keras.models.clone_model(model)
    assert isinstance(clone, RelaxModel)
    assert clone is not model
    if "builds_itself" in style:  # a constructor of its own may not fit: Keras uses it for none
        assert clone._style is model._style
    else:
        assert type(clone) is type(model)
    assert clone.compiled == is_compiled
    if clone.compiled:
        assert repr(clone.estimator) == repr(model.estimator)
        fit(clone)
        assert model.optimizer is not clone.optimizer


def test_clones_of_plain_models_are_plain():
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    plain.compile("sgd", "mse")
    assert type(keras.models.clone_model(plain)) is keras.Sequential
    inputs = keras.Input((3,))
    assert not isinstance(
        keras.models.clone_model(keras.Model(inputs, keras.layers.Dense(2)(inputs))), RelaxModel
    )


def test_cloning_with_functions():
    """`clone_function` and new inputs reach the layers, in the compiled model too."""

    def rename(layer):
        return type(layer).from_config({**layer.get_config(), "name": f"new_{layer.name}"})

    for make in (functional, sequential):
        model = compiled(make())
        clone = keras.models.clone_model(model, clone_function=rename)
        kept = [layer for layer in clone.layers if "new" not in layer.name]
        assert all(isinstance(layer, keras.layers.InputLayer) for layer in kept)
        assert clone.compiled


def test_hook_finish_clones():
    """`compat.finish_clones` leaves `compiled` as it was, whatever happens."""
    model = compiled(sequential())
    with pytest.raises(ZeroDivisionError):
        keras.models.clone_model(model, clone_function=lambda layer: 1 / 0)
    assert model.compiled


@pytest.mark.parametrize("make", [functional, sequential])
def test_scikit_learn_classifier(make, tmp_path):
    from sklearn.base import clone

    model = make()
    if make is functional:
        model = RelaxModel(model.inputs, keras.layers.Softmax()(model.outputs[0]))
    else:
        model.add(keras.layers.Softmax())
    compiled(model, loss="categorical_crossentropy")
    classifier = keras.wrappers.SKLearnClassifier(model, fit_kwargs={"verbose": 0})
    x, labels = np.tile(X, (5, 1)), np.array(["no", "yes"] * 10)
    clone(classifier).fit(x, labels)
    classifier.fit(x, labels)
    assert isinstance(classifier.model_, RelaxModel)
    assert set(classifier.predict(x)) <= {"no", "yes"}
    joblib.dump(classifier.set_params(model=None), tmp_path / "classifier.joblib")
    again = joblib.load(tmp_path / "classifier.joblib")
    assert_same_state(again.model_, classifier.model_)
    assert set(again.predict(x)) <= {"no", "yes"}


def test_scikit_learn_relatives():
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, keras.layers.Dense(1)(bernoulli()(keras.layers.Dense(2)(inputs))))
    compiled(model)
    regressor = keras.wrappers.SKLearnRegressor(model, fit_kwargs={"verbose": 0})
    assert regressor.fit(X, Y[:, 0]).predict(X).shape == (4,)
    transformer = keras.wrappers.SKLearnTransformer(model, fit_kwargs={"verbose": 0})
    assert transformer.fit(X, Y[:, 0]).transform(X).shape == (4, 1)
