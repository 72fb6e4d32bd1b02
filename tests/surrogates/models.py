"""A model with a surrogate that is up to the test, and what the tests do with it."""

import keras
import numpy as np
import tensorflow as tf

from tf_relax import RelaxModel
from tf_relax.estimators import Relax
from tf_relax.layers import RelaxBernoulli
from tf_relax.losses import BernoulliNLL
from tf_relax.surrogates import Surrogate

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = (X[:, :2] > 0).astype("float32")


def relax_model(surrogate="sum", context=False, **arguments):
    """Four units, three inputs, two targets."""
    inputs = keras.Input((3,))
    layer = RelaxBernoulli(name="code", seed=0)
    logits = keras.layers.Dense(4, name="encoder")(inputs)
    code = layer(logits, context=inputs) if context else layer(logits)
    model = RelaxModel(inputs, keras.layers.Dense(2, name="decoder")(code))
    arguments = {"run_eagerly": True, **arguments}
    arguments.setdefault("estimator", Relax(surrogate=surrogate))
    model.compile(keras.optimizers.Adam(0.1), BernoulliNLL(), **arguments)
    return model


def fit(model, **arguments):
    return model.fit(X, Y, batch_size=4, shuffle=False, verbose=0, **arguments)


def surrogate_of(model):
    (layer,) = model.stochastic_layers
    return model.estimator_state[layer.name].surrogate


def critic(*sizes, outputs=1, name="critic"):
    """A Keras model of z, four units, and of further tensors of the given sizes."""
    inputs = [keras.Input((size,)) for size in (4, *sizes)]
    joined = keras.layers.Concatenate()(inputs) if sizes else inputs[0]
    value = keras.layers.Dense(outputs)(keras.layers.Dense(5, "tanh")(joined))
    return keras.Model(inputs if sizes else inputs[0], value, name=name)


def values(variables):
    return [v.numpy() for v in variables]


def weights(model):
    """Those of the model, and what its estimator has learned."""
    return [*model.get_weights(), *values(model.estimator_state.variables)]


def assert_all_change(model, variables):
    before = values(variables)
    fit(model)
    for a, v in zip(before, variables, strict=True):
        assert (a != v.numpy()).any(), v.path


@keras.saving.register_keras_serializable(package="tests.surrogates.models")
class OfLogits(Surrogate):
    """A surrogate of the user's that knows of no context and no targets."""

    looks_at = ("logits",)

    def build(self, z_shape, logits_shape=None, context_shape=None, targets_shape=None):
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, z, logits):
        return self.factor * tf.reduce_sum(z * logits, axis=1)
