"""The Bernoulli layer by itself: what it returns, saves and repeats."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests import oracles
from tests.layers.models import divergence
from tests.models import bernoulli
from tf_relax import RelaxModel
from tf_relax.estimators import Reinforce, Relax
from tf_relax.layers import RelaxBernoulli
from tf_relax.losses import BernoulliNLL
from tf_relax.surrogates import Network, is_surrogate_variable

SHAPES = [(3,), (4, 5), (4, 2, 3), (2, 3, 2, 2), (1, 4)]


def sigmoid(a):
    return oracles.sigmoid(np.asarray(a, "float64"))


# ------------------------------------------------------------------------------ samples


@pytest.mark.parametrize("training", [True, False, None])
@pytest.mark.parametrize("shape", SHAPES)
def test_samples_are_zeros_and_ones_of_the_shape_of_the_logits(shape, training, rng):
    layer = RelaxBernoulli(prior="learned" if len(shape) > 1 else "uniform")
    sample = layer(tf.constant(rng.normal(size=shape), "float32"), training=training)
    assert sample.shape == shape
    assert sample.dtype == "float32"
    assert set(np.unique(sample)) <= {0.0, 1.0}
    assert layer.compute_output_shape(shape) == shape
    (term,) = layer.losses
    assert term.shape == shape[:1]


def test_symbolic_call():
    inputs = keras.Input((None, 3), batch_size=2)
    output = bernoulli()(inputs)
    assert output.shape == (2, None, 3)
    assert output.dtype == "float32"


@pytest.mark.parametrize(
    ("policy", "compute", "noise"),
    [
        ("float32", "float32", "float32"),
        ("mixed_float16", "float16", "float32"),
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("float16", "float16", "float32"),
        ("float64", "float64", "float64"),
    ],
)
@pytest.mark.parametrize("globally", [True, False])
def test_only_the_output_has_the_compute_dtype(policy, compute, noise, globally):
    if globally:
        keras.config.set_dtype_policy(policy)
    layer = RelaxBernoulli(prior="learned", **({} if globally else {"dtype": policy}))
    with tf_relax.record() as sites:
        output = layer(tf.zeros((2, 3), compute), context=tf.zeros((2, 4), compute), training=True)
    assert output.dtype == compute
    site = sites[0]
    tensors = [site.logits, site.z, site.b, site.z_tilde, site.context, site.draw.noise]
    assert {tensor.dtype for tensor in tensors} == {tf.as_dtype(noise)}
    assert {v.dtype for v in layer.weights} == {noise}
    assert layer.losses[0].dtype == noise
    state = Relax().build(layer, True)
    state.build()
    assert {v.dtype for v in state.variables} == {noise}
    value = state.surrogate(site.z, site.logits, site.context)
    assert value.dtype == noise


def test_frequencies(seed):
    """20,000 draws a logit; |z| > 5 in any of 9 happens by chance once in 200,000 seeds."""
    logits = np.array([-3.0, -1, -0.3, 0, 0.3, 1, 3, -80, 80], "float32")
    n = 20_000
    sample = np.asarray(bernoulli(seed=seed)(np.tile(logits, (n, 1)), training=True))
    p = sigmoid(logits)
    # Half a count on top: at logits of 80 the standard error itself is zero.
    assert (abs(sample.mean(axis=0) - p) <= 5 * np.sqrt(p * (1 - p) / n) + 0.5 / n).all()


def test_units_and_examples_are_independent(seed):
    """4,096 draws of 8 fair units: correlations beyond 5.5 standard errors are no chance."""
    sample = np.asarray(bernoulli(seed=seed)(tf.zeros((4096, 8)), training=True)) * 2 - 1
    limit = 5.5 / np.sqrt(4096)
    units = sample.T @ sample / 4096 - np.eye(8)
    assert abs(units).max() < limit
    assert abs((sample[1:] * sample[:-1]).mean(axis=0)).max() < limit


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 3)])
def test_batch_of_one(shape):
    layer = RelaxBernoulli(prior="uniform")
    sample = layer(80 * tf.ones(shape), training=True)
    np.testing.assert_array_equal(sample, np.ones(shape))
    np.testing.assert_allclose(divergence(layer), np.prod(shape) * np.log(2), rtol=1e-6)


# ------------------------------------------------------------------------------ inference


LOGITS = np.array([[-80.0, -1.0, 0.0], [0.5, 3.0, 80.0]], "float32")


def test_mode():
    layer = bernoulli(inference="mode")
    np.testing.assert_array_equal(layer(LOGITS, training=False), [[0, 0, 0], [1, 1, 1]])


def test_mean():
    layer = bernoulli(inference="mean")
    np.testing.assert_allclose(
        layer(LOGITS, training=False), sigmoid(LOGITS), rtol=1e-6, atol=1e-30
    )


@pytest.mark.parametrize("inference", ["mode", "mean"])
def test_modes_without_noise_leave_the_seed_alone_and_sample_in_training(inference):
    layer = bernoulli(inference=inference)
    state = np.array(layer.seed_generator.state.numpy())
    logits = tf.zeros((50, 4))
    layer(logits, training=False)
    layer(logits)
    np.testing.assert_array_equal(layer.seed_generator.state.numpy(), state)
    assert set(np.unique(layer(logits, training=True))) == {0.0, 1.0}
    assert (layer.seed_generator.state.numpy() != state).any()


def test_samples_are_fresh_in_inference():
    layer = bernoulli()
    logits = tf.zeros((50, 4))
    assert (np.asarray(layer(logits)) != np.asarray(layer(logits))).any()


# ------------------------------------------------------------------------------ seeds


def draws(layer, number=3):
    return [np.asarray(layer(tf.zeros((8, 8)), training=True)) for _ in range(number)]


def test_equal_seeds_give_equal_draws():
    first, second = draws(bernoulli(seed=7)), draws(bernoulli(seed=7))
    np.testing.assert_array_equal(first, second)
    assert (first[0] != first[1]).any()
    assert (first[0] != draws(bernoulli(seed=8))[0]).any()


def test_layers_without_a_seed_follow_the_seed_of_keras_and_differ(seed):
    first, second = draws(bernoulli()), draws(bernoulli())
    assert (first[0] != second[0]).any()
    keras.utils.set_random_seed(seed)
    np.testing.assert_array_equal([first, second], [draws(bernoulli()), draws(bernoulli())])


# ------------------------------------------------------------------------------ configuration


CONFIGURATIONS = {
    "defaults": {},
    "all": {
        "prior": "learned",
        "kl": "sampled",
        "kl_weight": 0.5,
        "inference": "mean",
        "seed": 3,
        "check_numerics": True,
        "name": "named",
        "dtype": "mixed_bfloat16",
        "trainable": False,
    },
    "vector": {"prior": [0.5, -1.0, 0.25]},
    "matrix": {"prior": np.zeros((2, 3))},
    "number": {"prior": 0.5},
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_configuration(kind):
    layer = RelaxBernoulli(**CONFIGURATIONS[kind])
    config = keras.layers.serialize(layer)
    again = keras.layers.deserialize(config)
    assert type(again) is RelaxBernoulli
    assert again.get_config() == layer.get_config()
    for name, value in CONFIGURATIONS[kind].items():
        if name not in ("prior", "dtype"):
            assert again.get_config()[name] == value
    assert again.dtype_policy == layer.dtype_policy
    for each in (layer, again):
        each.build((None, 2, 3))
    assert [v.shape for v in again.weights] == [v.shape for v in layer.weights]
    assert [v.name for v in again.weights] == [v.name for v in layer.weights]


def test_configuration_is_the_constructor():
    """Every argument of the constructor is in the configuration, under its own name."""
    arguments = set(inspect.signature(RelaxBernoulli.__init__).parameters) - {"self", "kwargs"}
    assert arguments <= set(RelaxBernoulli().get_config())


def test_weights_are_the_prior_and_its_factor():
    names = {}
    for prior in (None, "uniform", "learned"):
        layer = RelaxBernoulli(prior=prior)
        layer.build((None, 3))
        names[prior] = [{v.name for v in layer.weights}, {v.name for v in layer.trainable_weights}]
    assert names == {
        None: [set(), set()],
        "uniform": [{"kl_weight"}, set()],
        "learned": [{"kl_weight", "prior_logits"}, {"prior_logits"}],
    }


def test_default_temperature_and_scale():
    layer = RelaxBernoulli()
    layer.build((None, 3))
    state = Relax().build(layer, True)
    state.build()
    np.testing.assert_allclose(state.temperature, 0.1, rtol=1e-6)
    assert float(state.scale.numpy()) == 1.0
    state = Reinforce(baseline="moving_average").build(layer, True)
    state.build()
    assert {v.name for v in state.non_trainable_variables} == {"mean"}


def test_built_from_a_configuration_with_weights(tmp_path):
    """Weights, seed state and what is learned included, move between two models by file."""

    def build():
        inputs = keras.Input((3,))
        model = RelaxModel(inputs, RelaxBernoulli(prior="learned", kl_weight=0.5)(inputs))
        model.compile("sgd", "mse", estimator="relax")
        return model

    model, other = build(), build()
    layer, again = model.layers[1], other.layers[1]
    layer.kl_weight.assign(0.75)
    mine, theirs = model.estimator_state.by_layer[layer], other.estimator_state.by_layer[again]
    mine.log_temperature.assign(-1.0)
    layer(tf.zeros((4, 3)), training=True)  # moves the seed on
    model.save_weights(tmp_path / "w.weights.h5")
    other.load_weights(tmp_path / "w.weights.h5")
    for one, two in ((layer, again), (mine, theirs)):
        for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        [np.asarray(layer(tf.zeros((8, 3)), training=True)) for _ in range(2)],
        [np.asarray(again(tf.zeros((8, 3)), training=True)) for _ in range(2)],
    )


# ------------------------------------------------------------------------------ context, training


def test_context_reaches_the_network(rng):
    network = Network(units=(2,), activation="tanh")
    inputs, other = keras.Input((3,)), keras.Input((2, 2))
    model = RelaxModel([inputs, other], bernoulli()(inputs, context=other))
    estimator = Relax(surrogate=network)
    model.compile("sgd", BernoulliNLL(), estimator=estimator, run_eagerly=True)
    assert model.estimator_state["code"].surrogate is network
    network.set_weights([rng.normal(size=w.shape) for w in network.get_weights()])
    z, logits, context = (
        tf.constant(rng.normal(size=shape), "float32") for shape in ((4, 3), (4, 3), (4, 2, 2))
    )
    value = np.asarray(network(z, logits, context))
    assert value.shape == (4,)
    for changed in ((z + 1, logits, context), (z, logits + 1, context), (z, logits, context + 1)):
        assert (np.asarray(network(*changed)) != value).all()
    before = network.get_weights()
    model.fit([logits.numpy(), context.numpy()], np.ones((4, 3)), verbose=0)
    assert any((a != b).any() for a, b in zip(before, network.get_weights(), strict=True))


def test_surrogate_variables_are_marked_and_the_prior_is_not():
    inputs = keras.Input((3,))
    layer = RelaxBernoulli(prior="learned", name="code")
    model = RelaxModel(inputs, layer(inputs))
    model.compile("sgd", BernoulliNLL(), estimator="relax")
    assert [v.name for v in layer.trainable_variables] == ["prior_logits"]
    unmarked = [v for v in model.trained_variables if not is_surrogate_variable(v)]
    assert [v.name for v in unmarked] == ["prior_logits"]
    marked = [v for v in model.trained_variables if is_surrogate_variable(v)]
    learned = model.estimator_state["code"].trainable_variables
    assert [id(v) for v in marked] == [id(v) for v in learned]
    assert {v.name for v in learned} >= {"log_temperature", "scale", "intercept"}


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_training_far_out_stays_finite(sign):
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(2, kernel_initializer=keras.initializers.Identity(80.0 * sign))
    code = RelaxBernoulli(prior="learned", kl="sampled")(dense(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(2)(code))
    model.compile(keras.optimizers.Adam(0.01), BernoulliNLL(), run_eagerly=True)
    x = np.array([[1.0, -1.0], [-1.0, 1.0], [0.0, 1.0]], "float32")
    history = model.fit(x, np.abs(x), epochs=5, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert all(np.isfinite(v.numpy()).all() for v in model.estimator_state.variables)
