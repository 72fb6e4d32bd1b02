"""One model in every style of building, and what the tests of its training do with it."""

import keras
import numpy as np
import pytest

from tests.models import relax
from tf_relax import RelaxModel
from tf_relax.layers import RelaxBernoulli
from tf_relax.losses import BernoulliNLL

X = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
Y = (X > 0).astype("float32")


def bernoulli(**arguments):
    return RelaxBernoulli(**{"prior": "learned", **arguments})


def functional(model_class=RelaxModel, outputs=3, **arguments):
    inputs = keras.Input((3,))
    code = bernoulli(**arguments)(keras.layers.Dense(2, name="encoder")(inputs))
    return model_class(inputs, keras.layers.Dense(outputs, name="decoder")(code))


def sequential(model_class=RelaxModel, outputs=3, **arguments):
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(2, name="encoder"),
        bernoulli(**arguments),
        keras.layers.Dense(outputs, name="decoder"),
    ]
    return model_class(layers)


@keras.saving.register_keras_serializable(package="tests.training.models")
class Subclassed(RelaxModel):
    """Built by its `call`, with a constructor argument of its own."""

    def __init__(self, units=2, outputs=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.outputs_ = outputs
        self.encoder = keras.layers.Dense(units)
        self.code = bernoulli()
        self.decoder = keras.layers.Dense(outputs)

    def call(self, x, training=None):
        return self.decoder(self.code(self.encoder(x), training=training))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "outputs": self.outputs_}


@keras.saving.register_keras_serializable(package="tests.training.models")
class WithoutTraining(Subclassed):
    """Its `call` knows nothing of training; Keras passes it on to the layers."""

    def call(self, x):
        return self.decoder(self.code(self.encoder(x)))


@keras.saving.register_keras_serializable(package="tests.training.models")
class BuildsItself(RelaxModel):
    """Hands inputs and outputs of its own making to the constructor of the base."""

    def __init__(self, units=2, outputs=3, **kwargs):
        inputs = keras.Input((3,))
        code = bernoulli()(keras.layers.Dense(units)(inputs))
        super().__init__(inputs, keras.layers.Dense(outputs)(code), **kwargs)
        self.units = units
        self.outputs_ = outputs

    def get_config(self):
        return {"name": self.name, "units": self.units, "outputs": self.outputs_}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


@keras.saving.register_keras_serializable(package="tests.training.models")
class Own(RelaxModel):
    """A subclass that may be built in any style, with a method to show for it."""

    def own(self):
        return "own"


STYLES = {
    "functional": functional,
    "sequential": sequential,
    "subclassed": Subclassed,
    "subclassed_positional": lambda: Subclassed(2, 3),
    "without_training": WithoutTraining,
    "builds_itself": BuildsItself,
    "builds_itself_positional": lambda: BuildsItself(2, 3),
    "functional_subclass": lambda: functional(Own),
    "sequential_subclass": lambda: sequential(Own),
}

styles = pytest.mark.parametrize("style", STYLES)


def with_surrogate(estimator, surrogate):
    """The estimator with another surrogate, where it takes one."""
    config = estimator.get_config()
    return type(estimator).from_config(
        {**config, "surrogate": surrogate} if "surrogate" in config else config
    )


def compile_model(model, optimizer="adam", loss=None, estimator=None, **arguments):
    arguments = arguments if arguments else {"run_eagerly": True}
    model.compile(optimizer, loss or BernoulliNLL(), estimator=estimator or relax(), **arguments)
    return model


def fit(model, **arguments):
    arguments = {"batch_size": 4, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(X, Y, **arguments).history


def assert_same(actual, expected):
    for a, b in zip(numpy(actual), numpy(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def changed(before, after):
    return [bool((a != b).any()) for a, b in zip(before, after, strict=True)]


def numpy(variables):
    """Their values, and those of tensors and arrays among them."""
    return [np.asarray(getattr(v, "value", v)) for v in variables]


def held(model):
    """The weights of a compiled model, and what its estimator has learned."""
    return [*model.weights, *model.estimator_state.variables]


def assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
