"""NaN in a model shows in its loss at the first batch, as it does in a plain Keras model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tf_relax
from tests.estimators.learned import taught
from tests.relaxations.families import FAMILIES
from tf_relax import layers, losses


def poisson(a):
    return tfp.distributions.Poisson(log_rate=a)


LAYERS = {
    "bernoulli": (layers.RelaxBernoulli, (4,)),
    "normal": (layers.RelaxNormal, (4,)),
    "sample": (lambda **a: layers.RelaxSample(poisson, **a), (4,)),
    "poisson": (layers.RelaxPoisson, (4,)),
    "geometric": (layers.RelaxGeometric, (4,)),
    "category_index": (lambda **a: layers.RelaxCategorical(output="index", **a), (4,)),
    "top_k_index": (lambda **a: layers.RelaxTopK(2, output="index", **a), (4,)),
    "order_index": (lambda **a: layers.RelaxPermutation(output="index", **a), (4,)),
    "sinkhorn": (layers.GumbelSinkhorn, (2, 2)),
    **{family.name: (family.make, family.event) for family in FAMILIES},
}


def model_of(make, event, estimator, **arguments):
    inputs = keras.Input((2,))
    logits = keras.layers.Dense(int(np.prod(event)), name="encoder")(inputs)
    sample = make(name="layer", **arguments)(keras.layers.Reshape(event)(logits))
    if sample.dtype == "int32":
        sample = keras.layers.Rescaling(1.0)(sample)
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(sample))
    model = tf_relax.RelaxModel(inputs, outputs)
    model.compile("sgd", loss="mse", estimator=taught(estimator, "network"))
    return model


def poison(model):
    kernel = model.get_layer("encoder").kernel
    kernel.assign(np.full(kernel.shape, np.nan))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name):
    """In training, in evaluation and, but for indices, in what `predict` returns."""
    make, event = LAYERS[name]
    model = model_of(make, event, "reinforce")
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    assert np.isfinite(model.train_on_batch(x, y))
    poison(model)
    assert np.isnan(model.test_on_batch(x, y))
    assert "index" in name or np.all(np.isnan(model.predict(x, verbose=0)))
    assert np.isnan(model.train_on_batch(x, y))


@pytest.mark.parametrize(
    ("estimator", "mode"),
    [
        *((estimator, {"run_eagerly": True}) for estimator in ("relax", "reinmax")),
        *((estimator, {"jit_compile": True}) for estimator in ("relax", "straight_through")),
        *((estimator, {}) for estimator in ("relax", "rebar", "nvil", "leave_one_out", "arms")),
        *((estimator, {}) for estimator in ("muprop", "reinmax", "concrete", "exact")),
    ],
    ids=str,
)
def test_training_stops_at_the_first_batch(estimator, mode):
    """`TerminateOnNaN` fires where it fires for the same model without a stochastic layer."""
    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    batches = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batches.append(batch)
    )
    model = model_of(lambda **a: layers.RelaxBernoulli(inference="mode", **a), (2,), estimator)
    model.compile("sgd", loss="mse", estimator=model.estimator, **mode)
    poison(model)
    history = model.fit(
        x, y, batch_size=2, epochs=2, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN(), count]
    )
    assert batches == [0]
    assert np.isnan(history.history["loss"][0])


@pytest.mark.parametrize("inference", ["sample", "mode", "mean"])
def test_one_bad_example_leaves_the_others_alone(inference):
    logits = tf.constant([[1.0, -1.0], [np.nan, 1.0], [80.0, 80.0]])
    for make in (layers.RelaxBernoulli, layers.RelaxCategorical):
        sample = make(inference=inference)(logits).numpy()
        assert np.all(np.isnan(sample[1]) == (True if inference != "mean" else np.isnan(sample[1])))
        assert np.isnan(sample[1]).any()
        assert np.all(np.isfinite(sample[[0, 2]]))


def test_a_gradient_that_is_not_finite_shows_in_the_loss():
    """Normal units whose deviation underflows have a score of infinity and a finite objective."""
    inputs = keras.Input((1,))
    parameters = keras.layers.Dense(2, kernel_initializer="zeros", name="parameters")(inputs)
    model = tf_relax.RelaxModel(inputs, layers.RelaxNormal()(parameters))
    model.compile("sgd", loss=losses.BlackBox(lambda y, z: z[:, 0] ** 2), estimator="reinforce")
    x = np.ones((4, 1), "float32")
    assert np.isfinite(model.train_on_batch(x, x))
    model.get_layer("parameters").bias.assign([0.0, -200.0])
    assert np.isnan(model.train_on_batch(x, x))
