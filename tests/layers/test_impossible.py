"""Logits of -inf and masks in real training: mixed precision, networks, indices, wrong shapes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tf_relax import layers
from tf_relax.estimators import Relax

KEEP = np.array([True, True, False, True, False])


class Masked(keras.layers.Layer):
    """What models with a mask of their own do: the value that stands for "impossible" varies."""

    def __init__(self, value, **kwargs):
        super().__init__(**kwargs)
        self.value = value

    def call(self, x):
        return tf.where(KEEP, x, tf.cast(self.value, x.dtype))


LAYERS = {
    "bernoulli": lambda **a: layers.RelaxBernoulli(prior=[0.5], kl="sampled", **a),
    "categorical": lambda **a: layers.RelaxCategorical(prior="learned", **a),
    "top_k": lambda **a: layers.RelaxTopK(2, prior="uniform", **a),
    "sticks": lambda **a: layers.RelaxCategorical(
        method="stick_breaking", prior="uniform", kl="sampled", **a
    ),
    "plackett_luce": lambda **a: layers.RelaxPermutation(prior="learned", **a),
}


@pytest.mark.parametrize(
    ("name", "estimator", "policy"),
    [
        *((name, "relax", "mixed_float16") for name in LAYERS),
        *((name, "relax", "float32") for name in ("bernoulli", "plackett_luce")),
        ("categorical", "rebar", "mixed_float16"),
        ("plackett_luce", "rebar", "float32"),
        ("top_k", "nvil", "mixed_float16"),
        ("bernoulli", "nvil", "float32"),
    ],
)
def test_training_with_infinite_logits(name, estimator, policy):
    """Steps are applied, weights stay finite, and what is ruled out is never drawn."""
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((3,))
    logits = Masked(-np.inf)(keras.layers.Dense(5, name="encoder")(inputs))
    sample = LAYERS[name](name="layer")(logits)
    outputs = keras.layers.Dense(1, dtype="float32")(keras.layers.Flatten()(sample))
    model = tf_relax.RelaxModel(inputs, outputs)
    model.compile("adam", loss="mse", estimator=estimator)
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    before = [v.numpy() for v in model.get_layer("encoder").variables]
    history = model.fit(x, x[:, :1], batch_size=16, epochs=2, verbose=0)
    assert np.all(np.isfinite(history.history["loss"]))
    assert all(np.all(np.isfinite(weight)) for weight in model.get_weights())
    assert all(np.all(np.isfinite(v.numpy())) for v in model.estimator_state.variables)
    after = [v.numpy() for v in model.get_layer("encoder").variables]
    assert all(np.any(a[..., KEEP] != b[..., KEEP]) for a, b in zip(after, before, strict=True))
    # What does not exist is not trained.
    np.testing.assert_array_equal(after[0][:, ~KEEP], before[0][:, ~KEEP])
    with tf_relax.record() as sites:
        model(x, training=True)
    b = sites[0].b.numpy()[..., :5]
    assert not np.any(b[:, :3, ~KEEP] if b.ndim == 3 else b[:, ~KEEP])


def variance(units, make, **call):
    """Variance of relax with a network alone, trained for a while on a model held still."""
    rng = np.random.default_rng(0)
    kernel, weights = rng.normal(size=(4, 5)), rng.normal(size=(5, 1))
    x, y = rng.normal(size=(50, 4)).astype("float32"), np.zeros((50, 1), "float32")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    first = keras.initializers.Constant(kernel[:, units])
    logits = keras.layers.Dense(len(units), kernel_initializer=first)(inputs)
    network = tf_relax.surrogates.Network((20,))
    sample = make(logits, layers.RelaxCategorical(seed=1))
    last = keras.initializers.Constant(weights[units])
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1, kernel_initializer=last)(sample))
    optimizer = tf_relax.RelaxOptimizer(keras.optimizers.SGD(0.0), keras.optimizers.Adam(0.02))
    model.compile(optimizer, loss="mse", estimator=Relax(surrogate=network))
    model.fit(np.tile(x, (20, 1)), np.tile(y, (20, 1)), batch_size=50, epochs=15, verbose=0)
    step = tf.function(lambda: model.differentiate(x, y).logit_gradients[0], autograph=False)
    g = np.array([step().numpy() for _ in range(300)])
    return g[..., [list(units).index(k) for k in np.flatnonzero(KEEP)]].var(axis=0).sum()


@pytest.mark.slow
def test_the_network_does_not_see_what_is_ruled_out():
    """With a mask relax is as quiet as without the items, and louder where logits say it."""
    everything = np.arange(5)
    without = variance(np.flatnonzero(KEEP), lambda logits, layer: layer(logits))
    by_mask = variance(everything, lambda logits, layer: layer(logits, mask=KEEP[np.newaxis]))
    features = variance(everything, lambda logits, layer: layer(Masked(-1e4)(logits)))
    assert by_mask < 1.3 * without
    assert features > 1.5 * without  # what it would be if the network saw the logits


def test_indices_where_nothing_can_be_chosen():
    mask = np.array([[True, False, True], [False, False, False], [False, True, False]])
    logits = tf.zeros((3, 3))
    index = layers.RelaxCategorical(output="index")(logits, mask=mask).numpy()
    assert index[0] in (0, 2)
    assert list(index[1:]) == [-1, 1]
    places = layers.RelaxTopK(2, output="index")(logits, mask=mask).numpy()
    assert sorted(places[0]) == [0, 2]
    np.testing.assert_array_equal(places[1:], [[-1, -1], [1, -1]])


def two_layers():
    """The second layer may not choose what the first has chosen."""
    inputs = keras.Input((3,))
    first = layers.RelaxCategorical(name="first")(keras.layers.Dense(4)(inputs))

    class Rest(keras.layers.Layer):
        def call(self, b):
            return b < 0.5

    second = layers.RelaxCategorical(name="second")
    chosen = second(keras.layers.Dense(4)(inputs), mask=Rest()(first))
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()([first, chosen]))
    return tf_relax.RelaxModel(inputs, outputs)


@pytest.mark.parametrize("estimator", [Relax(surrogate="network"), "leave_one_out"], ids=str)
def test_a_mask_made_of_samples_is_unbiased(estimator):
    """Every weight of the encoders, by six standard errors, against the sum over all outcomes."""
    keras.utils.set_random_seed(3)
    model = two_layers()
    x, y = np.full((2000, 3), 0.5, "float32"), np.full((2000, 1), 0.2, "float32")
    model.compile("sgd", loss="mse", estimator=estimator)
    own = model.trainable_variables

    def gradients(x, y):
        result = model.differentiate(x, y)
        found = {v.path: g for v, g in zip(result.variables, result.gradients, strict=True)}
        return tf.concat([tf.reshape(found[v.path], [-1]) for v in own], axis=0)

    step = tf.function(lambda: gradients(x, y), autograph=False)
    runs = np.array([step().numpy() for _ in range(30)])
    model.compile("sgd", loss="mse", estimator="exact")
    exact = tf.function(lambda: gradients(x[:1], y[:1]), autograph=False)().numpy()
    error = runs.std(axis=0, ddof=1) / 30**0.5
    assert np.all(np.abs(runs.mean(axis=0) - exact) <= 6 * error + 1e-5)
    assert np.max(error) < 0.1 * np.abs(exact).max()


def test_a_mask_made_of_samples_cannot_be_relaxed():
    model = two_layers()
    model.compile("sgd", loss="mse", estimator="relax")
    with pytest.raises(ValueError, match=r"mask of RelaxCategorical 'second'.*'first'.*'network'"):
        model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))


@pytest.mark.parametrize(
    ("layer", "logits", "mask", "match"),
    [
        (layers.RelaxCategorical(), (2, 4), (2, 3), r"'.*': `mask` has the shape \(2, 3\)"),
        (layers.RelaxCategorical(), (2, 4), (2, 1, 4), "does not fit logits of shape"),
        (
            layers.RelaxCategorical(method="stick_breaking"),
            (2, 3),
            (2, 3),
            "do not belong to items.*method='gumbel'",
        ),
        (
            layers.RelaxPermutation(method="stick_breaking"),
            (2, 2, 2),
            (2, 2, 2),
            "do not belong to items.*method='plackett_luce'",
        ),
    ],
    ids=["items", "rank", "sticks", "permutation_sticks"],
)
def test_masks_that_do_not_fit(layer, logits, mask, match):
    with pytest.raises(ValueError, match=match):
        layer(tf.zeros(logits), mask=tf.ones(mask, tf.bool))


def test_exact_needs_as_many_choices_everywhere():
    inputs, mask = keras.Input((3,)), keras.Input((3,), dtype="bool")
    outputs = keras.layers.Dense(3)(layers.RelaxTopK(2)(inputs, mask=mask))
    model = tf_relax.RelaxModel([inputs, mask], outputs)
    model.compile("sgd", loss="mse", estimator="exact")
    with pytest.raises(ValueError, match="number of choices, and the mask of RelaxTopK"):
        model.train_on_batch([np.ones((2, 3)), np.ones((2, 3), bool)], np.ones((2, 3)))
    # Without a mask it shows in the numbers.
    outputs = keras.layers.Dense(3)(layers.RelaxTopK(2)(inputs))
    bare = tf_relax.RelaxModel(inputs, outputs)
    bare.compile("sgd", loss="mse", estimator="exact")
    x = np.array([[0.0, -np.inf, -np.inf]], "float32")
    assert np.isfinite(bare.train_on_batch(np.zeros((1, 3)), np.ones((1, 3))))
    assert np.isnan(bare.train_on_batch(x, np.ones((1, 3))))
