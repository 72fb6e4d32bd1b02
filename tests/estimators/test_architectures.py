"""RELAX behind convolutions and recurrences, and layers side by side.

Statistical tests compare 100 batches with enumeration. Student's t with 99 degrees of freedom
exceeds 6.5 once in 3e8; of the 250 weights here, once in a million runs.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators.learned import set_learned
from tf_relax.estimators import Exact, Relax

pytestmark = pytest.mark.usefixtures("float64")


def surrogate():
    parts = [tf_relax.surrogates.Objective(), tf_relax.surrogates.Network((3,), "tanh")]
    return tf_relax.surrogates.Sum(parts)


def categorical(**options):
    return tf_relax.layers.RelaxCategorical(**{"prior": "learned", **options})


def gradients_of(model, x, rows, runs, seed=0):
    """Gradients of all weights of the model itself, `[runs, weights]`."""
    own = model.trainable_variables
    x = tf.repeat(tf.constant(x), rows, axis=0)
    y = tf.fill((rows, model.output_shape[-1]), tf.constant(0.3, "float64"))

    @tf.function(autograph=False)
    def step():
        result = model.differentiate(x, y)
        by_path = {v.path: g for v, g in zip(result.variables, result.gradients, strict=True)}
        return tf.concat([tf.reshape(by_path[v.path], [-1]) for v in own], axis=0)

    for k, layer in enumerate(model.stochastic_layers):
        layer.seed_generator.state.assign([seed, k])
    return np.array([step().numpy() for _ in range(runs)])


def exact_gradient(model, x):
    """By enumeration, eagerly: of all outcomes there would be a large graph."""
    model.compile("sgd", "mse", estimator=Exact())
    set_learned(model, spread=0.3)
    y = tf.fill((1, model.output_shape[-1]), tf.constant(0.3, "float64"))
    result = model.differentiate(tf.constant(x), y)
    by_path = {v.path: g for v, g in zip(result.variables, result.gradients, strict=True)}
    return np.concatenate(
        [np.ravel(tf.convert_to_tensor(by_path[v.path])) for v in model.trainable_variables]
    )


def check(model, x, seed, rows=200, runs=100):
    exact = exact_gradient(model, x)
    model.compile("sgd", "mse", estimator=Relax(surrogate=surrogate(), temperature=0.5))
    set_learned(model, spread=0.3)
    found = gradients_of(model, x, rows, runs, seed)
    error = found.std(axis=0, ddof=1) / np.sqrt(runs)
    assert error.max() < 0.1 * np.abs(exact).max()  # else this would prove nothing
    assert np.all(np.abs(found.mean(axis=0) - exact) <= 6.5 * error + 1e-9)


# ------------------------------------------------------------------------------ encoders


def convolution():
    inputs = keras.Input((4, 4, 1))
    hidden = keras.layers.Conv2D(2, 3, activation="tanh", name="encoder")(inputs)
    return inputs, keras.layers.Flatten()(hidden)


def recurrence(kind):
    def encoder():
        inputs = keras.Input((3, 2))
        return inputs, kind(2, unroll=True, name="encoder")(inputs)

    return encoder


ENCODERS = {
    "convolution": convolution,
    "LSTM": recurrence(keras.layers.LSTM),
    "GRU": recurrence(keras.layers.GRU),
}


def encoder_model(kind):
    keras.utils.set_random_seed(3)
    inputs, hidden = ENCODERS[kind]()
    choice = categorical()(keras.layers.Dense(3)(hidden))
    return tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(choice))


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders(kind, seed):
    model = encoder_model(kind)
    x = np.random.default_rng(1).normal(size=(1, *model.input_shape[1:]))
    check(model, x, seed)


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_train(kind, rng):
    model = encoder_model(kind)
    model.compile("adam", "mse", estimator="relax")
    before = [w.copy() for w in model.get_layer("encoder").get_weights()]
    x = rng.normal(size=(8, *model.input_shape[1:]))
    history = model.fit(x, np.ones((8, 1)), batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for a, b in zip(before, model.get_layer("encoder").get_weights(), strict=True):
        assert (a != b).any()


# ------------------------------------------------------------------------------ unrolled samples


class Cell(keras.layers.Layer):
    """A recurrent cell whose state goes through a choice at every step."""

    def __init__(self):
        super().__init__(name="cell")
        self.state_size = self.output_size = 2
        self.logits = keras.layers.Dense(2, name="logits")
        self.choice = categorical(name="choice")
        self.next = keras.layers.Dense(2, "tanh", name="next")

    def build(self, input_shape):
        joint = (None, input_shape[-1] + 2)
        self.logits.build(joint)
        self.choice.build((None, 2))
        self.next.build((None, 4))
        self.built = True

    def call(self, inputs, states, training=None):
        logits = self.logits(keras.ops.concatenate([inputs, states[0]], axis=-1))
        b = self.choice(logits, training=training)
        state = self.next(keras.ops.concatenate([b, states[0]], axis=-1))
        return state, [state]


def test_a_choice_at_every_unrolled_step(seed):
    """Three sites of one layer in a chain: eight outcomes."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((3, 2))
    state = keras.layers.RNN(Cell(), unroll=True)(inputs)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(state))
    x = np.random.default_rng(1).normal(size=(1, 3, 2))
    with tf_relax.record() as sites:
        model(x, training=True)
    assert len(sites) == 3
    assert len(model.stochastic_layers) == 1
    check(model, x, seed)


# ------------------------------------------------------------------------------ side by side


class Counted(keras.layers.Layer):
    """Counts how often the decoder is built into a step."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs + 0.0


def mixed(parallel):
    """A category, an order, a subset and a bit."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((3,))
    kinds = [
        categorical(),
        tf_relax.layers.RelaxPermutation(),
        tf_relax.layers.RelaxTopK(1),
        tf_relax.layers.RelaxBernoulli(),
    ]
    below, samples = inputs, []
    for layer in kinds:
        sample = keras.layers.Flatten()(layer(keras.layers.Dense(2 + (layer is kinds[0]))(below)))
        samples.append(sample)
        below = inputs if parallel else sample
    counted = Counted(name="counted")
    outputs = keras.layers.Dense(1)(counted(keras.layers.Concatenate()(samples)))
    return tf_relax.RelaxModel(inputs, outputs), counted


@pytest.mark.parametrize(("parallel", "levels"), [(True, 1), (False, 4)])
def test_sites_side_by_side_share_one_replay(parallel, levels):
    """One evaluation at hard samples, and one at relaxed ones per level, not per layer."""
    model, counted = mixed(parallel)
    # The first trace of a model runs twice, because Keras creates variables in it.
    for estimator in ("reinforce", "relax"):
        model.compile("sgd", "mse", estimator=estimator)
        counted.calls = 0
        gradients_of(model, np.ones((1, 3)), 2, 1)
    assert counted.calls == 1 + levels


@pytest.mark.slow
def test_mixed_kinds_side_by_side(seed):
    """3 * 2 * 2 * 4 outcomes."""
    model, _ = mixed(parallel=True)
    check(model, np.array([[0.4, -1.0, 0.7]]), seed)
