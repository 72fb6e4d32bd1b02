"""Layers with the same seed: independent within a model, and the same when it is made again."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators.learned import taught
from tf_relax.layers import RelaxBernoulli, RelaxCategorical, RelaxNormal

ROWS = 4000
X = np.zeros((ROWS, 1), "float32")
# Four standard deviations of a mean of 4,000 fair bits.
TOLERANCE = 4 * 0.5 / ROWS**0.5


def product(first, second, kind=tf_relax.RelaxModel):
    inputs = keras.Input((1,))
    return kind(inputs, keras.layers.Multiply()([first(inputs), second(inputs)]))


def encoder():
    """A model of its own that draws one bit."""
    inputs = keras.Input((1,))
    return keras.Model(inputs, RelaxBernoulli(seed=1)(inputs))


def loaded(path, model):
    model.save(path)
    return keras.models.load_model(path)


def deepcopied(model):
    other = copy.deepcopy(model)
    other.name = "other"  # Keras wants names that differ
    return model, other


PAIRS = {
    "layers": lambda path: (RelaxBernoulli(seed=1), RelaxBernoulli(seed=1)),
    "encoders": lambda path: (encoder(), encoder()),
    "loaded_twice": lambda path: (loaded(path, encoder()), loaded(path, encoder())),
    "deepcopied": lambda path: deepcopied(encoder()),
}


@pytest.mark.parametrize("kind", [tf_relax.RelaxModel, keras.Model], ids=["relax", "keras"])
@pytest.mark.parametrize("pair", PAIRS)
def test_two_bits_with_one_seed_are_independent(pair, kind, tmp_path):
    """Both are 1 in a quarter of all cases, however the model is run; equal ones, in half."""
    model = product(*PAIRS[pair](tmp_path / "encoder.keras"), kind)
    for sample in (model.predict(X, verbose=0, batch_size=ROWS), model(X, training=True)):
        assert abs(np.mean(sample) - 0.25) < TOLERANCE
    with tf_relax.record() as sites:
        model(X, training=True)
    first, second = sites
    assert abs(np.mean(first.b * second.b) - 0.25) < TOLERANCE
    assert np.mean(first.z_tilde == second.z_tilde) < 0.01


@pytest.mark.parametrize(
    "layer",
    [
        lambda: RelaxNormal(seed=1),
        lambda: RelaxCategorical(seed=1),
        lambda: tf_relax.layers.RelaxTopK(2, seed=1),
        lambda: tf_relax.layers.RelaxPermutation(seed=1),
    ],
    ids=["normal", "categorical", "top_k", "permutation"],
)
def test_other_layers(layer):
    """Covariance of what two layers return at the same place, four standard deviations around 0."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [layer()(inputs), layer()(inputs)])
    first, second = (np.reshape(s, (ROWS, -1))[:, 0] for s in model(np.zeros((ROWS, 4), "float32")))
    product = (first - first.mean()) * (second - second.mean())
    assert abs(product.mean()) < 4 * product.std() / ROWS**0.5


def chain(dropout):
    """Two bits with the same seed, the second drawn with the logits that the first gives it."""
    inputs = keras.Input((1,))
    hidden = keras.layers.Dense(1, kernel_initializer="ones", name="first")(inputs)
    b_1 = RelaxBernoulli(seed=1, name="b_1")(hidden)
    if dropout:
        b_2 = keras.layers.Dropout(0.5, seed=1)(b_1)
    else:
        logits = keras.layers.Dense(1, kernel_initializer="ones")(b_1)
        b_2 = RelaxBernoulli(seed=1, name="b_2")(logits)
    parts = keras.layers.Concatenate()([b_1, b_2])
    weights = keras.initializers.Constant([[0.9], [0.6]])
    return tf_relax.RelaxModel(inputs, keras.layers.Dense(1, kernel_initializer=weights)(parts))


@pytest.mark.parametrize("estimator", ["relax", "leave_one_out"])
@pytest.mark.parametrize("dropout", [False, True], ids=["bernoulli", "dropout"])
def test_gradient_of_a_chain(dropout, estimator):
    """The bias of first kernel against the sum over all outcomes, by six standard errors."""
    x, y = np.full((20_000, 1), 0.3, "float32"), np.full((20_000, 1), 0.2, "float32")
    model = chain(dropout)
    model.compile("sgd", loss="mse", estimator=taught(estimator, "objective"))
    step = tf.function(lambda: model.differentiate(x, y).gradients[1][0], autograph=False)
    runs = [float(step()) for _ in range(12)]
    logit = tf.Variable(0.3)
    with tf.GradientTape() as tape:
        p = tf.sigmoid(logit)
        exact = 0.0
        for b_1, p_1 in ((0.0, 1 - p), (1.0, p)):
            # Dropout at rate 1/2 keeps the bit and doubles it, or drops it.
            p_2 = 0.5 if dropout else tf.sigmoid(b_1)
            b_2 = 2 * b_1 if dropout else 1.0
            exact += p_1 * (1 - p_2) * (0.9 * b_1 - 0.2) ** 2
            exact += p_1 * p_2 * (0.9 * b_1 + 0.6 * b_2 - 0.2) ** 2
    exact = float(tape.gradient(exact, logit))
    error = np.std(runs, ddof=1) / len(runs) ** 0.5
    assert abs(np.mean(runs) - exact) < 6 * error < 0.1 * abs(exact) + 0.01


def test_a_model_that_is_made_again_draws_the_same():

    x = np.zeros((ROWS, 3), "float32")
    model = [
        keras.Sequential([keras.Input((3,)), RelaxBernoulli(seed=42), RelaxBernoulli(seed=42)])
        for _ in range(2)
    ]
    first, again = (m.predict(x, verbose=0) for m in model)
    np.testing.assert_array_equal(first, again)
    assert np.any(first != model[0].predict(x, verbose=0))


def test_a_layer_on_its_own_draws_what_its_seed_says():
    first, again, other = (RelaxBernoulli(seed=s)(X, training=True) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
