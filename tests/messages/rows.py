"""A row of the tables of messages, and what the users in them do."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tests.models import bernoulli, costs, relax
from tf_relax import RelaxModel, losses

X = np.ones((4, 3), "float32")
Y = np.zeros((4, 2), "float32")


def model_of(layer=None, after=lambda code: code, **compile_options):
    """A compiled model, 3 inputs to 2 outputs, with one layer of two bits."""
    inputs = keras.Input((3,))
    logits = keras.layers.Dense(2, name="encoder")(inputs)
    code = after((layer or bernoulli())(logits))
    model = RelaxModel(inputs, keras.layers.Dense(2, name="decoder")(code), name="model")
    if compile_options.pop("is_compiled", True):
        options = {"optimizer": "sgd", "loss": "mse", "estimator": relax(), "run_eagerly": True}
        model.compile(**{**options, **compile_options})
    return model


def step(layer=None, x=X, y=Y, after=lambda code: code, graph=False, **compile_options):
    """One step of such a model."""
    model = model_of(layer, after, **compile_options)
    if graph:
        tf.function(lambda: model.differentiate(x, y).loss, autograph=False)()
    else:
        model.differentiate(x, y)


class Calls(RelaxModel):
    """Calls its layer as the row says."""

    def __init__(self, call_layer, layer=None):
        super().__init__(name="model")
        self.encoder, self.layer = keras.layers.Dense(2), layer or bernoulli()
        self.decoder, self.call_layer = keras.layers.Dense(2), call_layer
        self.encoder.build((None, 3))
        self.layer.build((None, 2))
        self.decoder.build((None, 2))
        self.built = True

    def call(self, x, training=None):
        return self.decoder(self.call_layer(self.layer, self.encoder(x)))


def step_of(call_layer, layer=None, graph=False, **compile_options):
    model = Calls(call_layer, layer)
    model.compile("sgd", "mse", run_eagerly=True, **{"estimator": relax(), **compile_options})
    run = lambda: model.differentiate(X, Y).loss  # noqa: E731
    (tf.function(run, autograph=False) if graph else run)()


def black_box_model(cost=costs, surrogate="network"):
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, bernoulli()(keras.layers.Dense(2)(inputs)), name="model")
    estimator, loss = relax(surrogate=surrogate), losses.BlackBox(cost, name="cost")
    model.compile("sgd", loss, estimator=estimator, run_eagerly=True)
    return model


def plain_model(layer=None):
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2)(inputs)
    model = keras.Model(inputs, outputs if layer is None else layer(outputs), name="plain")
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def weighted(**options):
    return model_of(
        bernoulli(prior="uniform"), loss=losses.BernoulliNLL(), importance_samples=3, **options
    )


class Row(NamedTuple):
    id: str
    do: Callable[[], Any]
    error: type[Exception] | tuple[type[Exception], ...]
    message: str
