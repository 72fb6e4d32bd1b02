"""Layers side by side of which one has the objective in its surrogate and the other a network."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_relax import RelaxModel
from tf_relax.estimators import Relax
from tf_relax.layers import RelaxBernoulli

X = np.ones((10_000, 2), "float32")
Y = np.zeros((10_000, 1), "float32")


def model_of(after_first, after_second):
    keras.utils.set_random_seed(0)
    inputs, outputs = keras.Input((2,)), []
    for name, after in (("first", after_first), ("second", after_second)):
        layer = RelaxBernoulli(name=name)
        outputs.append(after(layer(keras.layers.Dense(2)(inputs))))
    hidden = keras.layers.Dense(2, "tanh")(keras.layers.Concatenate()(outputs))
    model = RelaxModel(inputs, keras.layers.Dense(1)(hidden))
    model.compile("sgd", "mse")
    return model


def mixed(**options):
    return {
        "first": Relax(surrogate="objective", temperature=0.5, **options),
        "second": Relax(surrogate="network"),
    }


def gradients(model, estimator):
    """Per example, of the logits of both layers."""
    with model.using(estimator):
        step = tf.function(lambda: model.differentiate(X, Y).logit_gradients, autograph=False)
        return [g.numpy() for g in step()]


def unchanged(code):
    return code


def resized(code):
    image = keras.layers.Resizing(3, 3)(keras.layers.Reshape((2, 1, 1))(code))
    return keras.layers.Flatten()(image)


@pytest.mark.parametrize(
    ("layers", "options"),
    [
        ((unchanged, keras.layers.Lambda(tf.round)), {}),
        ((unchanged, resized), {}),
        ((resized, unchanged), {"learn_temperature": False}),
    ],
    ids=["network_rounded", "network_resized", "fixed_temperature"],
)
def test_what_is_not_asked_for_need_not_exist(layers, options):
    """Neither a derivative where a network predicts, nor a second one at a fixed temperature."""
    model = model_of(*layers)
    found, exact = gradients(model, mixed(**options)), gradients(model, "exact")
    for g, expected in zip(found, exact, strict=True):
        deviation = g.std(axis=0) / np.sqrt(len(g))
        # Four numbers a case: once in 10^5 runs.
        np.testing.assert_array_less(np.abs(g.mean(axis=0) - expected[0]), 5 * deviation + 1e-7)
        assert np.abs(expected[0]).max() > 5 * deviation.min()


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (keras.layers.Lambda(tf.round), "the sample of RelaxBernoulli 'first', so it cannot serve"),
        (resized, r"\(ResizeBilinearGrad\) after RelaxBernoulli 'first': its temperature"),
    ],
    ids=["rounded", "resized"],
)
def test_the_layer_that_needs_the_objective_is_named(after, message):
    with pytest.raises(ValueError, match=message):
        gradients(model_of(after, unchanged), mixed())
