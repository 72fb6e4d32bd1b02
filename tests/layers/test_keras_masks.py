"""Keras's own masks pass through stochastic layers, and padding costs nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tf_relax import layers
from tf_relax.estimators import Relax

# Sequences of 3, 1 and 2 steps; 0 is padding.
TOKENS = np.array([[1, 2, 3], [2, 0, 0], [3, 1, 0]])
SHORT = [TOKENS[0:1, :3], TOKENS[1:2, :1], TOKENS[2:3, :2]]
Y = np.arange(9, dtype="float32").reshape(3, 3, 1) / 9

LAYERS = {
    "bernoulli": (
        lambda: layers.RelaxBernoulli(prior=[3.0], name="layer"),
        4,
    ),
    "sampled": (
        lambda: layers.RelaxBernoulli(prior=[3.0], kl="sampled", name="layer"),
        4,
    ),
    "categorical": (
        lambda: layers.RelaxCategorical(prior=[0.0, 1, 2, 3], name="layer"),
        4,
    ),
    "sticks": (
        lambda: layers.RelaxCategorical(
            method="stick_breaking",
            prior=[3.0],
            name="layer",
        ),
        3,
    ),
    "top_k": (
        lambda: layers.RelaxTopK(2, prior=[1.0, 0, 0, 2], name="layer"),
        4,
    ),
    "normal": (
        lambda: layers.RelaxNormal(prior="standard", name="layer"),
        4,
    ),
}


def model_of(make, units, length=None):
    """Weights far from zero: the divergence of a step is large, and so is that of padding."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((length,), dtype="int32")
    embedding = keras.layers.Embedding(
        4, units, mask_zero=True, embeddings_initializer=keras.initializers.RandomNormal(stddev=5)
    )
    sample = make()(embedding(inputs))
    return tf_relax.RelaxModel(inputs, keras.layers.Dense(1, name="output")(sample))


def divergence(model, tokens):
    """Sum of the divergences of the steps of a batch."""
    model(tokens, training=True)
    return float(tf.add_n([tf.reduce_sum(loss) for loss in model.losses])) * len(tokens)


@pytest.mark.parametrize("name", LAYERS)
def test_padding_has_no_divergence(name):
    """That of the padded batch is the sum of those of its sequences without the padding."""
    make, units = LAYERS[name]
    model = model_of(make, units)
    runs = [divergence(model, TOKENS) for _ in range(20 if name in ("sampled", "top_k") else 1)]
    parts = [sum(divergence(model, one) for one in SHORT) for _ in runs]
    if len(runs) == 1:
        np.testing.assert_allclose(runs, parts, rtol=1e-5)
    else:  # estimated from samples: six standard errors
        error = np.hypot(np.std(runs), np.std(parts)) / len(runs) ** 0.5
        assert abs(np.mean(runs) - np.mean(parts)) < 6 * error + 1e-3


@pytest.mark.parametrize("name", LAYERS)
def test_the_mask_goes_on(name):
    make, units = LAYERS[name]
    model = model_of(make, units)
    mask = model(TOKENS)._keras_mask
    np.testing.assert_array_equal(mask, TOKENS != 0)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "jit"])
def test_the_loss_is_that_of_the_steps_that_count(jit_compile):
    """Keras's mean over the steps that are not masked, plus the divergence of those steps."""
    model = model_of(lambda: layers.RelaxCategorical(prior="uniform", name="layer"), 4)
    estimator = Relax(surrogate="objective")
    model.compile("sgd", loss="mse", estimator=estimator, jit_compile=jit_compile)
    with tf_relax.record() as sites:
        outputs = model(TOKENS, training=True)
    kl = float(tf.add_n(model.losses) if len(model.losses) > 1 else tf.reduce_sum(model.losses[0]))
    errors = np.square(outputs - Y)[TOKENS != 0]
    expected = np.mean(errors) + kl
    state = sites[0].layer.seed_generator.state
    state.assign([0, 3])
    with tf_relax.record():
        outputs = model(TOKENS, training=True)
    expected = np.mean(np.square(outputs - Y)[TOKENS != 0]) + kl
    state.assign([0, 3])
    found = model.differentiate(TOKENS, Y).loss
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_padding_has_no_noise():
    """Nothing is drawn for it, so it adds nothing to the gradient of the encoder."""
    model = model_of(lambda: layers.RelaxCategorical(name="layer"), 4)
    model.compile("sgd", loss="mse", estimator="reinforce")
    step = model.differentiate(TOKENS, Y)
    padded = step.logit_gradients[0].numpy()[TOKENS == 0]
    assert np.all(padded == 0)
    assert np.any(step.logit_gradients[0].numpy()[TOKENS != 0] != 0)
    assert np.all(step.sites[0].b.numpy()[TOKENS == 0] == 0)


def test_attention_over_a_padded_sequence():
    """Logits [batch, steps] with the mask of the steps: it is the mask of the items."""
    inputs = keras.Input((3,), dtype="int32")
    embedded = keras.layers.Embedding(4, 2, mask_zero=True)(inputs)
    scores = keras.layers.Dense(1)(embedded)

    class Squeeze(keras.layers.Layer):
        supports_masking = True

        def call(self, x):
            return x[..., 0]

    glimpse = layers.RelaxCategorical()(Squeeze()(scores))
    model = tf_relax.RelaxModel(inputs, glimpse)
    for _ in range(20):
        drawn = model(TOKENS, training=True).numpy()
        assert np.all(drawn[TOKENS == 0] == 0)
        np.testing.assert_array_equal(drawn.sum(axis=1), 1)
    assert getattr(model(TOKENS), "_keras_mask", None) is None  # one choice, no steps are left


def test_a_mask_of_units_stays_with_its_layer(rng):
    """It says nothing about steps, and the loss of Keras would take it for a mask of such."""
    inputs, present = keras.Input((4,)), keras.Input((3,), dtype="bool")
    code = layers.RelaxBernoulli(prior=[3.0])(keras.layers.Dense(3)(inputs), mask=present)
    model = tf_relax.RelaxModel([inputs, present], keras.layers.Dense(2, name="output")(code))
    x = [rng.normal(size=(5, 4)).astype("float32"), rng.random((5, 3)) < 0.5]
    y = np.zeros((5, 2), "float32")
    assert getattr(model(x), "_keras_mask", None) is None
    model.compile("sgd", loss="mse")
    loss = model.fit(x, y, batch_size=5, shuffle=False, verbose=0).history["loss"]
    assert np.isfinite(loss).all()


def test_masking_layer_and_context():
    """With a context beside the logits Keras names the mask otherwise."""
    x = np.array([[[1.0, 2.0], [0.0, 0.0]]], "float32")
    inputs, context = keras.Input((None, 2)), keras.Input((3,))
    logits = keras.layers.Masking()(inputs)
    layer = layers.RelaxBernoulli(prior=[2.0])
    model = keras.Model([inputs, context], layer(logits, context=context))
    output = model([x, np.ones((1, 3), "float32")])
    np.testing.assert_array_equal(output._keras_mask, [[True, False]])
    alone = keras.Model(inputs, layer(inputs))
    alone(x[:, :1])
    expected = float(tf.reduce_sum(layer.losses[-1]))
    model([x, np.ones((1, 3), "float32")])
    np.testing.assert_allclose(tf.reduce_sum(layer.losses[-1]), expected, rtol=1e-6)


def test_mask_of_the_call_and_of_keras():
    """What either rules out is out."""
    inputs = keras.Input((3,), dtype="int32")
    logits = keras.layers.Embedding(4, 2, mask_zero=True)(inputs)
    items = keras.Input((3, 2), dtype="bool")
    sample = layers.RelaxCategorical()(logits, mask=items)
    model = keras.Model([inputs, items], sample)
    allowed = np.array([[[1, 0]] * 3] * 3, bool)
    drawn = model([TOKENS, allowed])
    np.testing.assert_array_equal(drawn[..., 0], TOKENS != 0)
    np.testing.assert_array_equal(drawn[..., 1], 0)
    np.testing.assert_array_equal(drawn._keras_mask, TOKENS != 0)


def test_conditional_prior():
    """The entropy and the prior of padded steps do not count."""
    x = np.array([[[1.0, 2.0], [0.0, 0.0]]], "float32")
    inputs, prior = keras.Input((None, 2)), keras.Input((None, 2))
    logits = keras.layers.Masking()(inputs)
    sample = layers.RelaxBernoulli(inference="mode")(logits)
    model = keras.Model([inputs, prior], layers.ConditionalPrior()(sample, logits, prior))
    p = np.full((1, 2, 2), 0.7, "float32")
    output = model([x, p])
    np.testing.assert_array_equal(output._keras_mask, [[True, False]])
    padded = float(tf.reduce_sum(model.losses[0]))
    model([x[:, :1], p[:, :1]])
    np.testing.assert_allclose(padded, tf.reduce_sum(model.losses[0]), rtol=1e-6)
