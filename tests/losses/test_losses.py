"""Losses against NumPy, and the black box that nothing may differentiate or relax."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.estimators.learned import taught
from tests.models import run_modes
from tf_relax import RelaxModel, estimators, losses
from tf_relax.layers import RelaxBernoulli
from tf_relax.losses import BernoulliNLL, BlackBox
from tf_relax.surrogates import Network

# ------------------------------------------------------------------------------ Bernoulli


def nll(y, logits):
    return (np.logaddexp(0, logits) - y * logits).reshape(len(y), -1).sum(axis=1)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 2, 2), (3, 2, 2, 1), (1, 4)])
def test_likelihood(shape, rng):
    y = rng.integers(0, 2, size=shape).astype("float32")
    logits = rng.normal(size=shape).astype("float32")
    np.testing.assert_allclose(BernoulliNLL().call(y, logits), nll(y, logits), rtol=1e-5)
    np.testing.assert_allclose(BernoulliNLL()(y, logits), nll(y, logits).mean(), rtol=1e-5)
    total = BernoulliNLL(reduction="sum")(y, logits)
    np.testing.assert_allclose(total, nll(y, logits).sum(), rtol=1e-5)


def test_likelihood_by_hand():
    logits = np.log([[3.0, 1.0], [1.0, 1 / 3]])  # probabilities 3/4, 1/2 and 1/2, 1/4
    y = np.array([[1.0, 0.0], [0.5, 0.0]])
    expected = [-np.log(3 / 4) - np.log(1 / 2), -np.log(1 / 2) - np.log(3 / 4)]
    np.testing.assert_allclose(BernoulliNLL().call(y, logits), expected, rtol=1e-6)


def test_likelihood_far_out():
    """At 80 a probability has long been rounded to 0 or 1."""
    logits = tf.constant([[80.0, -80.0], [80.0, -80.0]])
    y = tf.constant([[1.0, 0.0], [0.0, 1.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = BernoulliNLL().call(y, logits)
    np.testing.assert_allclose(value, [0.0, 160.0], atol=1e-6)
    np.testing.assert_allclose(tape.gradient(value, logits), [[0, 0], [1, -1]], atol=1e-6)


def test_likelihood_weighs_examples(rng):
    y, logits = rng.integers(0, 2, size=(3, 4)), rng.normal(size=(3, 4))
    weight = np.array([1.0, 0.0, 3.0])
    value = BernoulliNLL()(y, logits, sample_weight=weight)
    np.testing.assert_allclose(value, (weight * nll(y, logits)).mean(), rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_likelihood_under_policies(policy, rng):
    """Half precision of 784 pixels would round away everything after the third digit."""
    keras.config.set_dtype_policy(policy)
    if policy == "float64":
        keras.config.set_floatx("float64")
    compute = keras.config.dtype_policy().compute_dtype
    y = rng.integers(0, 2, size=(2, 784)).astype("float32")
    logits = tf.cast(rng.normal(size=(2, 784)), compute)
    value = BernoulliNLL()(y, logits)
    assert value.dtype == keras.config.floatx()
    exact = nll(y, tf.cast(logits, "float64").numpy()).mean()
    np.testing.assert_allclose(value, exact, rtol=1e-12 if policy == "float64" else 1e-5)


# ------------------------------------------------------------------------------ serialization


@keras.saving.register_keras_serializable(package="test_losses")
def hamming(y_true, y_pred):
    return (y_true != y_pred).sum(axis=1)


@pytest.mark.parametrize(
    "loss",
    [
        BernoulliNLL(reduction="sum", name="pixels"),
        BlackBox(hamming, reduction="sum", name="bits"),
    ],
    ids=["bernoulli_nll", "black_box"],
)
def test_configuration(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    y, y_pred = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])
    np.testing.assert_array_equal(again(y, y_pred), loss(y, y_pred))


def test_everything_public_is_exported():
    assert set(losses.__all__) == {"BernoulliNLL", "BlackBox"}


# ------------------------------------------------------------------------------ black box


@pytest.mark.parametrize("dtype", [bool, "int64", "float32", "float64"])
def test_black_box(dtype):
    y = np.array([[1, 0], [1, 1], [0, 0]], "float32")
    y_pred = np.array([[1, 1], [1, 1], [1, 1]], "float32")
    seen = []

    def cost(y_true, y_pred):
        seen.append((y_true, y_pred))
        return np.array([1, 0, 1]).astype(dtype)

    loss = BlackBox(cost)
    np.testing.assert_allclose(loss(y, y_pred), 2 / 3, rtol=1e-6)
    assert all(type(array) is np.ndarray for array in seen[0])
    np.testing.assert_array_equal(seen[0][0], y)
    np.testing.assert_array_equal(seen[0][1], y_pred)
    np.testing.assert_allclose(BlackBox(cost, reduction="sum")(y, y_pred), 2.0)
    weighted = loss(y, y_pred, sample_weight=np.array([3.0, 5.0, 0.0]))
    np.testing.assert_allclose(weighted, 1.0)


class Recorder:
    """A cost that keeps what it is called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, y_true, y_pred):
        self.calls.append(y_pred.copy())
        return np.abs(y_true - y_pred).sum(axis=1)


def encoder(units=2):
    inputs = keras.Input((2,))
    logits = keras.layers.Dense(units, kernel_initializer="zeros")(inputs)
    return RelaxModel(inputs, RelaxBernoulli(seed=0)(logits))


def small(estimator="relax"):
    """An estimator with a small network, where it has one."""
    return taught(estimator, Network(units=(4,)))


@run_modes
@pytest.mark.parametrize("estimator", ["relax", "reinforce"])
def test_black_box_is_asked_once_per_step_about_hard_samples(estimator, run_eagerly):
    cost = Recorder()
    model = encoder()
    model.compile("sgd", BlackBox(cost), estimator=small(estimator), run_eagerly=run_eagerly)
    x = np.ones((10, 2), "float32")
    history = model.fit(x, x, batch_size=4, verbose=0, shuffle=False)
    assert [len(call) for call in cost.calls] == [4, 4, 2]
    samples = np.concatenate(cost.calls)
    assert set(np.unique(samples)) <= {0.0, 1.0}
    expected = np.abs(1 - samples).sum(axis=1).mean()
    np.testing.assert_allclose(history.history["loss"], [expected], rtol=1e-6)


@pytest.mark.parametrize("estimator", ["relax", "reinforce"])
def test_black_box_teaches_the_logits(estimator):
    """Two bits that ought to be one: 60 steps of 100 examples leave no doubt."""
    model = encoder()
    model.compile(
        keras.optimizers.Adam(0.1),
        BlackBox(Recorder()),
        estimator=small(estimator),
        jit_compile=False,
    )
    x = np.ones((6000, 2), "float32")
    model.fit(x, x, batch_size=100, verbose=0)
    assert (np.asarray(model.layers[1](x[:1])) > 1.5).all()


@run_modes
def test_black_box_beside_a_differentiable_loss(run_eagerly):
    """Replays see the differentiable part alone, the recorded pass the sum of both."""
    cost = Recorder()
    inputs = keras.Input((2,))
    code = RelaxBernoulli(name="code")(keras.layers.Dense(2)(inputs))
    outputs = {"code": keras.layers.Identity()(code), "image": keras.layers.Dense(2)(code)}
    model = RelaxModel(inputs, outputs)
    losses = {"code": BlackBox(cost), "image": "mse"}
    estimator = estimators.Relax(surrogate="objective")
    weights = {"code": 3.0, "image": 1.0}
    model.compile("sgd", losses, loss_weights=weights, estimator=estimator, run_eagerly=run_eagerly)
    x = np.ones((4, 2), "float32")
    before = [v.numpy() for v in model.trained_variables]
    history = model.fit(x, {"code": x, "image": x}, batch_size=4, verbose=0).history
    assert len(cost.calls) == 1
    assert set(np.unique(cost.calls[0])) <= {0.0, 1.0}
    parts = 3 * history["code_loss"][0] + history["image_loss"][0]
    np.testing.assert_allclose(history["loss"][0], parts, rtol=1e-5)
    np.testing.assert_allclose(
        history["code_loss"][0], np.abs(1 - cost.calls[0]).sum(axis=1).mean(), rtol=1e-6
    )
    for a, v in zip(before, model.trained_variables, strict=True):
        assert (a != v.numpy()).any(), v.path


@run_modes
@pytest.mark.parametrize(
    ("estimator", "evaluations"),
    [
        ("relax", 1),
        (estimators.Relax(num_samples=3, num_conditional=2), 3),
        ("dlax", 1),
        ("nvil", 1),
        (estimators.Reinforce(baseline="learned"), 1),
        ("leave_one_out", 2),
        ("disarm", 2),
        (estimators.Arms(num_samples=3), 3),
    ],
    ids=str,
)
def test_evaluations_of_a_black_box(estimator, evaluations, run_eagerly):
    """Whoever needs no derivative learns from costs alone, as often as it has samples."""
    cost = Recorder()
    model = encoder()
    model.compile(
        keras.optimizers.SGD(0.1),
        BlackBox(cost),
        estimator=small(estimator),
        run_eagerly=run_eagerly,
    )
    before = model.layers[1].get_weights()
    x = np.ones((64, 2), "float32")
    model.fit(x, x, batch_size=64, verbose=0)
    assert len(cost.calls) == evaluations
    assert all(set(np.unique(call)) <= {0.0, 1.0} for call in cost.calls)
    for a, b in zip(before, model.layers[1].get_weights(), strict=True):
        assert (a != b).any()


def test_black_box_survives_saving(tmp_path):
    model = encoder()
    model.compile("sgd", BlackBox(hamming, name="bits"), estimator=small())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.fn is hamming
    assert loaded.loss.name == "bits"
    assert loaded.jit_compile is False
    assert loaded.estimator.surrogate.units == (4,)
    x = np.ones((4, 2), "float32")
    loaded.fit(x, x, verbose=0)


def test_black_box_evaluates_and_predicts():
    cost = Recorder()
    model = encoder()
    model.compile("sgd", BlackBox(cost), estimator=small())
    x = np.ones((6, 2), "float32")
    value = model.evaluate(x, x, batch_size=3, verbose=0)
    assert [len(call) for call in cost.calls] == [3, 3]
    expected = np.abs(1 - np.concatenate(cost.calls)).sum(axis=1).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert model.predict(x, verbose=0).shape == (6, 2)
