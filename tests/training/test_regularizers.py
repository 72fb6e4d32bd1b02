"""Regularizers and constraints: the loss and the gradients that plain Keras gives, counted once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tf_relax import RelaxModel
from tf_relax.estimators import Reinforce, Relax
from tf_relax.layers import RelaxBernoulli
from tf_relax.losses import BernoulliNLL
from tf_relax.surrogates import KerasModel, Network, Sum

X = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
Y = np.random.default_rng(1).standard_normal((4, 2)).astype("float32")
WAYS = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "xla": {"jit_compile": True},
}


@keras.saving.register_keras_serializable(package="tests")
class Cubes(keras.regularizers.Regularizer):
    """A regularizer of one's own."""

    def __call__(self, x):
        return 0.3 * keras.ops.sum(keras.ops.abs(x) ** 3)

    def get_config(self):
        return {}


REGULARIZERS = {
    "l2": lambda: "l2",
    "l1_l2": lambda: keras.regularizers.L1L2(0.1, 0.2),
    "orthogonal": lambda: keras.regularizers.OrthogonalRegularizer(0.1),
    "class": Cubes,
    "function": lambda: lambda x: 0.1 * tf.reduce_sum(tf.sin(x)),
}


def model_of(regularizer=None, estimator="relax", **compile_options):
    """Two layers of samples, whose weights and noise do not depend on the regularizer."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    options = {"kernel_regularizer": regularizer, "bias_regularizer": regularizer and "l1"}
    a = keras.layers.Dense(2, bias_initializer="ones", name="encoder", **options)(inputs)
    b = RelaxBernoulli(prior="learned", seed=1, name="one")(a)
    b = RelaxBernoulli(prior="learned", seed=2, name="two")(keras.layers.Dense(2, name="chain")(b))
    outputs = keras.layers.Dense(2, name="decoder", kernel_regularizer=regularizer)(b)
    model = RelaxModel(inputs, outputs)
    model.compile("sgd", compile_options.pop("loss", "mse"), estimator=estimator, **compile_options)
    return model


def step_of(model, way):
    def run():
        step = model.differentiate(tf.constant(X), tf.constant(Y))
        return step.loss, dict(zip(map(id, step.variables), step.gradients, strict=True))

    run = run if way == "eager" else tf.function(run, jit_compile=way == "xla", autograph=False)
    loss, gradients = run()
    return float(loss), [gradients[id(v)].numpy() for v in model.trained_variables]


def penalty_of(model):
    """Loss and gradients of the regularizers alone, by Keras."""
    with tf.GradientTape() as tape:
        loss = tf.add_n(model.losses)
    gradients = tape.gradient(
        loss, [v.value for v in model.trained_variables], unconnected_gradients="zero"
    )
    return float(loss), [g.numpy() for g in gradients]


def assert_adds_the_penalty(regularizer, way="graph", **options):
    loss, without = step_of(model_of(**options), way)
    model = model_of(REGULARIZERS[regularizer](), **options)
    penalty, of_penalty = penalty_of(model)
    regularized, gradients = step_of(model, way)
    assert abs(penalty) > 0.01
    assert regularized - loss == pytest.approx(penalty, rel=1e-3)
    assert sum(np.abs(g).sum() > 0 for g in of_penalty) == 3
    for g, plain, of_regularizer in zip(gradients, without, of_penalty, strict=True):
        np.testing.assert_allclose(g - plain, of_regularizer, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("way", ["eager", "graph"])
def test_the_penalty_and_its_gradient_are_those_of_keras(way):
    assert_adds_the_penalty("l2", way)


@pytest.mark.parametrize("regularizer", sorted(set(REGULARIZERS) - {"l2"}))
def test_every_kind_of_regularizer(regularizer):
    assert_adds_the_penalty(regularizer, "eager")


@pytest.mark.parametrize(
    "estimator",
    ["reinforce", "disarm", "concrete", "exact", "muprop", tf_relax.estimators.LeaveOneOut(3)],
    ids=str,
)
def test_passes_and_replays_count_it_once(estimator):
    assert_adds_the_penalty("l2", "eager", estimator=estimator)


def test_importance_samples_count_it_once():
    options = {"estimator": "vimco", "importance_samples": 3, "loss": BernoulliNLL()}
    assert_adds_the_penalty("l2", "eager", **options)


@pytest.mark.parametrize("way", WAYS)
def test_fit_equals_plain_keras_where_samples_do_not_matter(way):
    """A branch of samples that the outputs ignore leaves an ordinary model."""

    def build(cls):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((3,))
        first = {"kernel_regularizer": "l2", "kernel_constraint": "unit_norm"}
        last = {"bias_regularizer": "l1", "bias_constraint": "non_neg", "bias_initializer": "ones"}
        hidden = keras.layers.Dense(3, "tanh", name="hidden", **first)(inputs)
        outputs = keras.layers.Dense(2, name="last", **last)(hidden)
        if cls is RelaxModel:
            outputs = outputs + 0.0 * RelaxBernoulli()(keras.layers.Dense(1)(inputs))
        model = cls(inputs, outputs)
        options = {"estimator": Relax(surrogate="network")} if cls is RelaxModel else {}
        model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"], **WAYS[way], **options)
        return model

    plain, relaxed = build(keras.Model), build(RelaxModel)
    options = {"epochs": 3, "batch_size": 2, "shuffle": False, "verbose": 0}
    expected, history = plain.fit(X, Y, **options), relaxed.fit(X, Y, **options)
    for name, values in expected.history.items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-5)
    ours = [v for name in ("hidden", "last") for v in relaxed.get_layer(name).weights]
    for a, b in zip(plain.trainable_variables, ours, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-7, err_msg=a.path)
    assert relaxed.evaluate(X, Y, verbose=0) == pytest.approx(plain.evaluate(X, Y, verbose=0))


def test_activity_regularizers_before_the_samples():
    def build(regularizer):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,))
        a = keras.layers.Dense(2, activity_regularizer=regularizer)(inputs)
        model = RelaxModel(inputs, keras.layers.Dense(2)(RelaxBernoulli(seed=1)(a)))
        model.compile("sgd", "mse")
        return model

    without, model = build(None), build("l2")
    kernel, bias = model.layers[1].weights
    a = X @ kernel.numpy()
    step, plain = (m.differentiate(tf.constant(X), tf.constant(Y)) for m in (model, without))
    assert float(step.loss - plain.loss) == pytest.approx(0.01 * np.sum(a**2) / 4, rel=1e-4)
    for variable, expected in ((kernel, X.T @ a), (bias, a.sum(axis=0))):
        k = [v is variable for v in step.variables].index(True)
        difference = step.gradients[k] - plain.gradients[k]
        np.testing.assert_allclose(difference, 0.02 * expected / 4, rtol=1e-3, atol=1e-6)


def test_embeddings():
    def build(regularizer):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((2,), dtype="int32")
        rows = keras.layers.Embedding(5, 2, embeddings_regularizer=regularizer)
        a = keras.layers.Flatten()(rows(inputs))
        model = RelaxModel(inputs, keras.layers.Dense(2)(RelaxBernoulli(seed=1)(a)))
        model.compile("adam", "mse", jit_compile=False)
        return model, rows.embeddings

    x = np.array([[0, 1], [1, 3]])
    found = []
    for regularizer in (None, "l2"):
        model, rows = build(regularizer)
        step = model.differentiate(tf.constant(x), tf.constant(Y[:2]))
        k = [v is rows for v in step.variables].index(True)
        found.append(tf.convert_to_tensor(step.gradients[k]).numpy())
    np.testing.assert_allclose(found[1] - found[0], 0.02 * rows.numpy(), rtol=1e-3, atol=1e-7)
    model.fit(x, Y[:2], verbose=0)


def test_mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    model = model_of("l2", jit_compile=False)
    scale = float(model.optimizer.initial_scale)
    model.differentiate(X, Y)  # builds nothing, as a functional model is built
    model.optimizer.build(model.trained_variables)
    penalty, of_penalty = penalty_of(model)
    regularized, gradients = step_of(model, "graph")
    loss, without = step_of(_after_one_step(model_of(jit_compile=False)), "graph")
    assert regularized - loss == pytest.approx(penalty, abs=2e-3)
    decoder = [v.path for v in model.trained_variables].index("decoder/kernel")
    difference = (gradients[decoder] - without[decoder]) / scale
    np.testing.assert_allclose(difference, of_penalty[decoder], rtol=0.02, atol=1e-4)


def _after_one_step(model):
    model.differentiate(X, Y)
    model.optimizer.build(model.trained_variables)
    return model


def test_frozen_layers_are_not_regularized():
    model = model_of("l2", run_eagerly=True)
    model.get_layer("encoder").trainable = False
    model.compile("sgd", "mse", run_eagerly=True)
    penalty, _ = penalty_of(model)
    kernel = model.get_layer("decoder").kernel.numpy()
    assert penalty == pytest.approx(0.01 * np.sum(kernel**2))
    before = model.get_layer("encoder").get_weights()
    model.fit(X, Y, verbose=0)
    for a, b in zip(before, model.get_layer("encoder").get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_regularized_weight_that_the_forward_pass_moves():
    """SpectralNormalization writes the very kernel that the regularizer reads."""
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(2, kernel_regularizer="l2", kernel_initializer="ones")
    a = keras.layers.SpectralNormalization(dense)(inputs)
    model = RelaxModel(inputs, keras.layers.Dense(2)(RelaxBernoulli()(a)))
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    model.fit(X, Y, epochs=2, verbose=0)
    assert np.linalg.norm(dense.kernel.numpy(), 2) == pytest.approx(1.0, abs=1e-3)


# ------------------------------------------------------------------------------ elsewhere


def test_audit_and_callback():
    model = model_of("l2", run_eagerly=True)
    variables = [*model.variables, *model.estimator_state.variables]
    before = [v.numpy() for v in variables]
    report = tf_relax.audit(
        model, X, Y, ["disarm"], num_samples=8, reference="disarm", surrogate_steps=1, verbose=0
    )
    assert {row.evaluations for row in report.rows} == {3}
    for old, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy(), err_msg=variable.path)
    callback = tf_relax.callbacks.GradientVariance(X, Y)
    history = model.fit(X, Y, callbacks=[callback], verbose=0).history
    assert history["one_gradient_variance"][0] > 0


# ------------------------------------------------------------------------------ surrogates


def surrogate_model(estimator):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    code = RelaxBernoulli(seed=1, name="code")
    model = RelaxModel(inputs, keras.layers.Dense(2)(code(keras.layers.Dense(2)(inputs))))
    model.compile("sgd", "mse", estimator=estimator)
    return model


def critic(**options):
    keras.utils.set_random_seed(5)
    z = keras.Input((2,))
    return KerasModel(
        keras.Model(z, keras.layers.Dense(1)(keras.layers.Dense(3, "tanh", **options)(z)))
    )


@pytest.mark.parametrize("nested", [False, True])
def test_regularizers_inside_of_a_surrogate_join_what_trains_it(nested):
    found = []
    for regularizer in (None, "l2"):
        surrogate = critic(kernel_regularizer=regularizer)
        whole = Sum([Network((2,)), surrogate]) if nested else surrogate
        model = surrogate_model(Relax(surrogate=whole))
        step = model.differentiate(X, Y)
        kernel = surrogate.model.layers[1].kernel
        k = [v is kernel for v in step.variables].index(True)
        found.append((float(step.loss), step.gradients[k].numpy()))
    difference = found[1][1] - found[0][1]
    np.testing.assert_allclose(difference, 0.02 * kernel.numpy(), rtol=1e-3, atol=1e-6)
    # The surrogate is no part of the model, nor its regularizers of the loss that is shown.
    assert found[1][0] == found[0][0]


def test_activity_regularizers_inside_of_a_surrogate_join_it_too():
    biases = []
    for regularizer in (None, lambda x: 3.0 * tf.reduce_sum(x)):
        surrogate = critic(activity_regularizer=regularizer)
        model = surrogate_model(Relax(surrogate=surrogate))
        surrogate.model.layers[1].activation = keras.activations.linear
        model.differentiate(X, Y)
        step = model.differentiate(X, Y)  # what an earlier step added is no part of this one
        k = [v is surrogate.model.layers[1].bias for v in step.variables].index(True)
        biases.append(step.gradients[k].numpy())
    np.testing.assert_allclose(biases[1] - biases[0], 3.0, rtol=1e-4)


@pytest.mark.parametrize("frozen", [False, True], ids=["reinforce", "frozen"])
def test_a_surrogate_that_is_not_trained_is_not_regularized(frozen):
    surrogate = critic(kernel_regularizer="l2")
    surrogate.trainable = not frozen
    estimator = (Relax if frozen else Reinforce)(surrogate=surrogate)
    model = surrogate_model(estimator)
    before = surrogate.get_weights()
    assert len(before) >= 4
    model.fit(X, Y, verbose=0)
    for a, b in zip(before, surrogate.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
