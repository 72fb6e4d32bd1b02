"""The compiled loss as one value per example, and the passes in which it is evaluated."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_relax import RelaxModel
from tf_relax._src.estimators.state import SurrogateState
from tf_relax._src.training.objective import per_example_objective
from tf_relax.estimators import Estimate, Estimator
from tf_relax.layers import RelaxBernoulli
from tf_relax.losses import BernoulliNLL

modes = pytest.mark.parametrize("mode", ["eager", "graph"])

# Row by row: squared errors (0, 1), (4, 16), (0, 4).
PREDICTION = np.array([[0.0, 1.0], [2.0, 4.0], [1.0, 1.0]], "float32")
TARGET = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 3.0]], "float32")
SQUARED = [0.5, 10.0, 2.0]  # mean squared error
ABSOLUTE = [0.5, 3.0, 1.0]  # mean absolute error


def run(function, mode):
    """Calls a function without arguments in the given mode."""
    return function() if mode == "eager" else tf.function(function)()


def identity_model(y_pred, **compile_arguments):
    """A model that returns its inputs, of any structure."""
    if isinstance(y_pred, dict):
        inputs = {key: keras.Input(p.shape[1:], name=key) for key, p in y_pred.items()}
    else:
        inputs = keras.tree.map_structure(lambda p: keras.Input(p.shape[1:]), y_pred)
    outputs = keras.tree.map_structure(lambda x: keras.layers.Identity()(x), inputs)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", **compile_arguments)
    return model


def objective_of(y_pred, y, mode, sample_weight=None, **compile_arguments):
    model = identity_model(y_pred, **compile_arguments)

    def objective():
        return per_example_objective(model, y_pred, y, model(y_pred), sample_weight)

    result = run(objective, mode)
    # Whatever the loss is made of, its parts add up to what Keras minimises.
    stock = model.compute_loss(y_pred, y, model(y_pred), sample_weight)
    np.testing.assert_allclose(result.loss, stock, rtol=1e-6)
    total = np.mean(result.f) + np.sum([np.sum(term) for term in result.shared])
    np.testing.assert_allclose(total, stock, rtol=1e-6)
    return result


def assert_f(result, expected):
    assert result.f.shape == (len(expected),)
    np.testing.assert_allclose(result.f, expected, rtol=1e-6)


def summed_absolute(y_true, y_pred):
    return keras.ops.sum(keras.ops.abs(y_true - y_pred), axis=-1)


def elementwise_square(y_true, y_pred):
    return (y_true - y_pred) ** 2


@keras.saving.register_keras_serializable(package="test_objective")
class Doubled(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return 2 * keras.ops.mean((y_true - y_pred) ** 2, axis=-1)


# ------------------------------------------------------------------------------ one output


@modes
@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", SQUARED),
        ("mean_absolute_error", ABSOLUTE),
        (keras.losses.MeanSquaredError(), SQUARED),
        (keras.losses.mean_squared_error, SQUARED),
        (summed_absolute, [1.0, 6.0, 2.0]),
        (elementwise_square, SQUARED),  # Keras averages over elements as well
        (Doubled(), [1.0, 20.0, 4.0]),
        (keras.losses.MeanSquaredError(reduction="sum"), [1.5, 30.0, 6.0]),  # mean f is the sum
        (
            BernoulliNLL(),
            [
                np.log(2) + np.log1p(np.e),
                2 + 4 + np.log1p(np.exp([-2, -4])).sum(),
                2 * np.log1p(np.e) - 1 - 3,
            ],
        ),
    ],
    ids=[
        "name",
        "long_name",
        "object",
        "keras_function",
        "function",
        "elements",
        "subclass",
        "sum",
        "bernoulli_nll",
    ],
)
def test_loss_of_one_output(loss, expected, mode):
    result = objective_of(PREDICTION, TARGET, mode, loss=loss)
    assert_f(result, expected)
    assert result.shared == []


@modes
def test_labels_of_lower_rank(mode):
    y_pred = np.log(np.array([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]], "float32"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    result = objective_of(y_pred, np.array([1, 0, 1]), mode, loss=loss)
    assert_f(result, -np.log([0.75, 0.5, 0.1]))


@modes
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_sample_weight(mode, dtype):
    weight = np.array([2, 0, 1], dtype)
    assert_f(objective_of(PREDICTION, TARGET, mode, weight, loss="mse"), [1.0, 0.0, 2.0])


@modes
def test_sample_weight_of_two_dimensions(mode):
    weight = np.array([[2.0], [0.0], [1.0]], "float32")
    assert_f(objective_of(PREDICTION, TARGET, mode, weight, loss="mse"), [1.0, 0.0, 2.0])


@modes
def test_temporal_sample_weight(mode):
    y_pred = np.array([[[1.0], [2.0], [3.0]], [[1.0], [0.0], [2.0]]], "float32")
    weight = np.array([[1.0, 0.0, 2.0], [3.0, 1.0, 0.5]], "float32")
    # Keras divides by the number of time steps in the batch, whatever they weigh.
    expected = [(1 + 2 * 9) / 3, (3 * 1 + 0.5 * 4) / 3]
    assert_f(objective_of(y_pred, np.zeros_like(y_pred), mode, weight, loss="mse"), expected)
    without = [(1 + 4 + 9) / 3, (1 + 0 + 4) / 3]
    assert_f(objective_of(y_pred, np.zeros_like(y_pred), mode, loss="mse"), without)


@modes
def test_mask(mode):
    x = np.array([[[1.0], [2.0], [0.0]], [[3.0], [0.0], [0.0]]], "float32")
    inputs = keras.Input((3, 1))
    model = keras.Model(inputs, keras.layers.Masking()(inputs))
    model.compile("sgd", loss="mse")

    def objective():
        return per_example_objective(model, x, np.ones_like(x), model(x), None)

    # Three of six steps are masked, so Keras doubles the weight of the others.
    assert_f(run(objective, mode), [2 * (0 + 1) / 3, 2 * 4 / 3])


@modes
@pytest.mark.parametrize("size", [2, 3])
def test_output_of_three_dimensions(size, mode):
    """With as many time steps as examples a weight per example also fits the wrong dimension."""
    y_pred = np.array([[[1.0], [2.0], [3.0]], [[1.0], [0.0], [2.0]]], "float32")[:, :size]
    expected = np.mean(y_pred**2, axis=(1, 2))
    assert_f(objective_of(y_pred, np.zeros_like(y_pred), mode, loss="mse"), expected)
    weight = np.array([3.0, 1.0], "float32")[:, None]
    result = objective_of(y_pred, np.zeros_like(y_pred), mode, weight, loss="mse")
    assert_f(result, weight[:, 0] * expected)


@modes
def test_images(mode, rng):
    """Losses that keep all dimensions but the last, all of them, or the first alone."""
    y_pred = rng.normal(size=(2, 2, 2, 2)).astype("float32")
    y = np.zeros_like(y_pred)
    expected = np.mean(y_pred**2, axis=(1, 2, 3))
    assert_f(objective_of(y_pred, y, mode, loss="mse"), expected)
    assert_f(objective_of(y_pred, y, mode, loss=elementwise_square), expected)
    nll = np.sum(np.log1p(np.exp(y_pred)), axis=(1, 2, 3))
    assert_f(objective_of(y_pred, y, mode, loss=BernoulliNLL()), nll)


@modes
def test_batch_of_one(mode):
    assert_f(objective_of(PREDICTION[:1], TARGET[:1], mode, loss="mse"), SQUARED[:1])


def test_values_are_differentiable_and_compile_under_xla():
    """Both weigh in: derivatives of f train the surrogates, inside the compiled step."""
    model = identity_model(PREDICTION, loss="mse")
    weight = tf.constant([2.0, 0.0, 1.0])

    @tf.function(jit_compile=True)
    def gradient(y_pred):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            f = per_example_objective(model, y_pred, TARGET, model(y_pred), weight).f
        return f, tape.gradient(f, y_pred)

    f, derivative = gradient(tf.constant(PREDICTION))
    np.testing.assert_allclose(f, [1.0, 0.0, 2.0], rtol=1e-6)
    expected = np.array([[2.0], [0.0], [1.0]]) * (PREDICTION - TARGET)
    np.testing.assert_allclose(derivative, expected, rtol=1e-6)


@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_other_default_float(floatx):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    y_pred, y = PREDICTION.astype(floatx), TARGET.astype(floatx)
    model = identity_model(y_pred, loss="mse")
    result = per_example_objective(model, y_pred, y, model(y_pred), None)
    assert result.f.dtype == floatx
    np.testing.assert_allclose(result.f, SQUARED, rtol=1e-3)


# ------------------------------------------------------------------------------ several outputs


PREDICTIONS = {"a": PREDICTION, "b": PREDICTION + 1}
TARGETS = {"a": TARGET, "b": TARGET}
SQUARED_B = [(1 + 4) / 2, (9 + 25) / 2, (1 + 1) / 2]
ABSOLUTE_B = [(1 + 2) / 2, (3 + 5) / 2, (1 + 1) / 2]


def combine(*terms):
    return sum(factor * np.asarray(values) for factor, values in terms)


@modes
@pytest.mark.parametrize("container", [dict, list])
def test_one_loss_per_output(container, mode):
    y_pred, y, loss = PREDICTIONS, TARGETS, {"a": "mse", "b": "mae"}
    if container is list:
        y_pred, y, loss = (list(tree.values()) for tree in (y_pred, y, loss))
    result = objective_of(y_pred, y, mode, loss=loss)
    assert_f(result, combine((1, SQUARED), (1, ABSOLUTE_B)))


@modes
@pytest.mark.parametrize("container", [dict, list])
def test_loss_weights(container, mode):
    y_pred, y, loss, weights = PREDICTIONS, TARGETS, {"a": "mse", "b": "mae"}, {"a": 0.5, "b": 3.0}
    if container is list:
        y_pred, y, loss, weights = (list(tree.values()) for tree in (y_pred, y, loss, weights))
    result = objective_of(y_pred, y, mode, loss=loss, loss_weights=weights)
    assert_f(result, combine((0.5, SQUARED), (3, ABSOLUTE_B)))


@modes
def test_the_same_loss_for_all_outputs(mode):
    result = objective_of(PREDICTIONS, TARGETS, mode, loss={"a": "mse", "b": "mse"})
    assert_f(result, combine((1, SQUARED), (1, SQUARED_B)))


@modes
def test_output_without_loss(mode):
    y_pred, y = list(PREDICTIONS.values()), list(TARGETS.values())
    assert_f(objective_of(y_pred, y, mode, loss=["mse", None]), SQUARED)


@modes
def test_sample_weight_for_all_outputs(mode):
    weight = np.array([2.0, 0.0, 1.0], "float32")
    result = objective_of(PREDICTIONS, TARGETS, mode, weight, loss={"a": "mse", "b": "mae"})
    assert_f(result, weight * combine((1, SQUARED), (1, ABSOLUTE_B)))


@modes
@pytest.mark.parametrize("container", [dict, list])
def test_sample_weight_per_output(container, mode):
    weights = {"a": np.array([2.0, 0, 1], "float32"), "b": np.array([0.0, 1, 4], "float32")}
    y_pred, y, loss = PREDICTIONS, TARGETS, {"a": "mse", "b": "mae"}
    expected = combine((weights["a"], SQUARED), (weights["b"], ABSOLUTE_B))
    if container is list:
        y_pred, y, loss, weights = (list(t.values()) for t in (y_pred, y, loss, weights))
    assert_f(objective_of(y_pred, y, mode, weights, loss=loss), expected)


@modes
def test_sample_weight_for_some_outputs_only(mode):
    weight = np.array([2.0, 0.0, 1.0], "float32")
    y_pred, y = list(PREDICTIONS.values()), list(TARGETS.values())
    result = objective_of(y_pred, y, mode, [weight, None], loss=["mse", "mae"])
    assert_f(result, combine((weight, SQUARED), (1, ABSOLUTE_B)))


# ------------------------------------------------------------------------------ add_loss


class AddLoss(keras.layers.Layer):
    """Adds a function of its input to the loss."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        self.add_loss(self.function(x))
        return x


def objective_with_add_loss(function, mode, loss="mse", regularizer=None):
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(2, use_bias=False, kernel_regularizer=regularizer)
    outputs = AddLoss(function)(dense(inputs))
    model = keras.Model(inputs, outputs)
    dense.kernel.assign(np.eye(2))
    model.compile("sgd", loss=loss)

    def objective():
        y = None if loss is None else TARGET
        return per_example_objective(model, PREDICTION, y, model(PREDICTION), None)

    return run(objective, mode)


@modes
def test_add_loss_per_example(mode):
    result = objective_with_add_loss(lambda x: keras.ops.sum(x, axis=-1) / 3, mode)
    # Keras sums over the batch what it is given: a third of (1, 6, 2).
    assert_f(result, combine((1, SQUARED), (1, [1.0, 6.0, 2.0])))
    np.testing.assert_allclose(result.loss, np.mean(result.f), rtol=1e-6)


@modes
def test_add_loss_per_element(mode):
    result = objective_with_add_loss(lambda x: x / 3, mode)
    assert_f(result, combine((1, SQUARED), (1, [1.0, 6.0, 2.0])))


@modes
def test_add_loss_alone(mode):
    result = objective_with_add_loss(lambda x: keras.ops.sum(x, axis=-1) / 3, mode, loss=None)
    assert_f(result, [1.0, 6.0, 2.0])


@modes
def test_scalars_stay_outside_of_the_examples_but_in_the_loss(mode):
    def scalar(x):
        return keras.ops.convert_to_tensor(7.0)

    result = objective_with_add_loss(scalar, mode, regularizer=keras.regularizers.L2(0.5))
    assert_f(result, SQUARED)
    assert sorted(float(term) for term in result.shared) == [1.0, 7.0]  # 0.5 * |identity|^2
    np.testing.assert_allclose(result.loss, np.mean(SQUARED) + 8, rtol=1e-6)


@modes
@pytest.mark.parametrize("size", [1, 2])
def test_add_loss_that_is_neither_scalar_nor_per_example(size, mode):
    """One element would broadcast: every example would be charged with all of it."""
    with pytest.raises(ValueError, match=r"add_loss.*batch|batch.*add_loss"):
        objective_with_add_loss(lambda x: keras.ops.ones((size,)), mode)


# ------------------------------------------------------------------------------ compute_loss


class Overridden(keras.Model):
    """A model with a `compute_loss` of its own."""

    passes_on = True

    def call(self, x):
        return x

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        per_example = keras.ops.sum(keras.ops.abs(y - y_pred), axis=-1)
        if self.passes_on:
            per_example *= sample_weight
        return keras.ops.mean(per_example)


@modes
def test_compute_loss_of_the_user(mode):
    model = Overridden()
    model.compile("sgd")
    result = run(lambda: per_example_objective(model, PREDICTION, TARGET, PREDICTION, None), mode)
    assert_f(result, [1.0, 6.0, 2.0])


@modes
@pytest.mark.parametrize("loss", ["mse", None], ids=["loss", "no_loss"])
def test_compute_loss_that_ignores_the_weights(loss, mode):
    model = Overridden()
    model.passes_on = False
    model.compile("sgd", loss=loss)
    with pytest.raises(ValueError, match="pass `sample_weight` on in `compute_loss`"):
        run(lambda: per_example_objective(model, PREDICTION, TARGET, PREDICTION, None), mode)


# ------------------------------------------------------------------------------ passes of a step


class Spy(Estimator):
    """An estimator that trains nothing and keeps what `look` returns.

    At the default temperature the relaxed sample at its own z is the hard one, to the last bit.
    """

    def __init__(self, look=None, temperature=1e-8):
        self.look = look or (lambda one: one.f)
        self.temperature = temperature

    def build(self, layer, relaxable):
        state = SurrogateState(
            layer, surrogate=None, uses_objective=True, temperature=self.temperature, scale=1.0
        )
        state.trainable = False
        return state

    def estimate(self, passes):
        (one,) = passes
        self.seen = self.look(one)
        return Estimate([[tf.zeros_like(site.logits) for site in one.sites]])


def look(model, x, y, mode, sample_weight=None):
    """One pass of a model compiled with a `Spy`: what it saw, and the outputs."""

    def step():
        result = model.differentiate(tf.constant(x), tf.constant(y), sample_weight)
        return model.estimator.seen, result.y_pred

    return keras.tree.map_structure(np.asarray, run(step, mode))


def replay_every_level(one):
    # Twice, as for an independent z~: no replay may move on what the next one sees.
    levels = [*one.sites.levels(), *one.sites.levels()]
    return one.f, [one.relaxed(level, [site.z for site in level]) for level in levels]


@pytest.fixture
def x(rng):
    return rng.normal(size=(5, 3)).astype("float32")


@pytest.fixture
def y(rng):
    return rng.normal(size=(5, 2)).astype("float32")


def chain(inputs):
    code = RelaxBernoulli(prior="learned")(keras.layers.Dense(4)(inputs))
    code = RelaxBernoulli(prior="uniform", kl="sampled")(keras.layers.Dense(3)(code))
    return keras.layers.Dense(2)(code)


def side_by_side(inputs):
    left = RelaxBernoulli(prior="uniform")(keras.layers.Dense(4)(inputs))
    right = RelaxBernoulli()(keras.layers.Dense(3)(inputs))
    return keras.layers.Dense(2)(keras.layers.Concatenate()([left, right]))


def shared(inputs):
    layer = RelaxBernoulli(prior="uniform")
    code = layer(keras.layers.Dense(4)(inputs))
    return keras.layers.Dense(2)(layer(keras.layers.Dense(4)(code)))


def dropout(inputs):
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8)(inputs))
    code = keras.layers.Dropout(0.5)(RelaxBernoulli()(keras.layers.Dense(8)(hidden)))
    code = keras.layers.GaussianNoise(1.0)(code)
    return keras.layers.Dense(2)(code)


def batch_statistics(inputs):
    code = RelaxBernoulli()(keras.layers.BatchNormalization()(keras.layers.Dense(4)(inputs)))
    return keras.layers.Dense(2)(keras.layers.BatchNormalization()(code))


ARCHITECTURES = [chain, side_by_side, shared, dropout, batch_statistics]


@modes
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_replay_at_the_recorded_samples_repeats_the_recorded_pass(architecture, mode, x, y):
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, architecture(inputs))
    model.compile("sgd", loss="mse", estimator=Spy(replay_every_level), batch_coupled=False)
    (f, replays), _ = look(model, x, y, mode)
    assert len(np.unique(f)) == len(f)  # a constant would repeat whatever the replay did
    for replayed in replays:
        np.testing.assert_allclose(replayed, f, rtol=1e-5)


@modes
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_passes_on_the_recorded_samples_repeat_the_recorded_pass(architecture, mode, x, y):
    """Samples that are given, and samples that the noise of the pass makes again."""

    def repeat(one):
        forced = one.forced([site.b for site in one.sites])
        resampled = [one.signal(one.resampled(level, 0)) for level in one.sites.levels()]
        pairs = zip(forced.sites, one.sites, strict=True)
        return one.f, [forced.f, *resampled], [(new.b, site.b) for new, site in pairs]

    inputs = keras.Input((3,))
    model = RelaxModel(inputs, architecture(inputs))
    model.compile("sgd", loss="mse", estimator=Spy(repeat), batch_coupled=False)
    (f, repeated, samples), _ = look(model, x, y, mode)
    assert len(np.unique(f)) == len(f)
    for values in repeated:
        np.testing.assert_allclose(values, f, rtol=1e-5)
    for new, recorded in samples:
        np.testing.assert_array_equal(new, recorded)


class Passages(Estimator):
    """Three passes, of which it keeps objective and samples."""

    num_passes = num_noises = 3

    def estimate(self, passes):
        self.seen = passes.f, [(one.f, [(s.b, s.logits) for s in one.sites]) for one in passes]
        return Estimate([[tf.zeros_like(s.logits) for s in one.sites] for one in passes])


@modes
def test_passes_are_independent_runs_of_the_same_model(mode, rng):
    """Dropout masks and the logits of the first layer repeat, samples do not."""
    inputs = keras.Input((3,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8)(inputs))
    first = RelaxBernoulli()(keras.layers.Dense(16)(hidden))
    dense = keras.layers.Dense(2)
    outputs = keras.layers.Dropout(0.5)(RelaxBernoulli()(dense(first)))
    model = RelaxModel(inputs, outputs)
    model.compile("sgd", loss="mse", estimator=Passages())
    x, y = rng.normal(size=(64, 3)), rng.normal(size=(64, 2))
    (mean, passes), y_pred = look(model, x, y, mode)
    np.testing.assert_allclose(mean, np.mean([f for f, _ in passes], axis=0), rtol=1e-5)
    np.testing.assert_allclose(passes[0][0], ((y_pred - y) ** 2).mean(axis=1), rtol=1e-5)
    kernel, bias = (np.asarray(w) for w in dense.weights)
    masks = np.array([[0, 0], [0, 2], [2, 0], [2, 2]])[:, None, :]
    error = np.zeros((4, 64))  # of every mask that an example may have, over all passes
    for k, (f, ((b, logits), (c, inner))) in enumerate(passes):
        np.testing.assert_array_equal(logits, passes[0][1][0][1])
        np.testing.assert_allclose(inner, b @ kernel + bias, rtol=1e-4, atol=1e-5)
        error = np.maximum(error, np.abs(f - ((masks * c - y) ** 2).mean(axis=2)))
        for f_other, ((other, _), _) in passes[:k]:
            assert (b != other).any()
            assert (f != f_other).any()
    assert (error.min(axis=0) < 1e-5).all()


@modes
def test_derivative_at_the_samples(mode, x, y):
    inputs = keras.Input((3,))
    code = RelaxBernoulli(prior="uniform")(keras.layers.Dense(4)(inputs))
    decoder = keras.layers.Dense(2)
    model = RelaxModel(inputs, decoder(code))
    model.compile(
        keras.optimizers.SGD(), "mse", loss_weights=3.0, estimator=Spy(lambda one: one.derivative())
    )
    (derivative,), y_pred = look(model, x, y, mode)
    expected = 3 * (y_pred - y) @ np.asarray(decoder.kernel).T
    np.testing.assert_allclose(derivative, expected, rtol=1e-4, atol=1e-5)


@modes
def test_means_pass_through_all_later_layers(mode, x, y):
    inputs = keras.Input((3,))
    dense = [keras.layers.Dense(2) for _ in range(2)]
    value = inputs
    for linear in dense:
        value = RelaxBernoulli()(linear(value))
    model = RelaxModel(inputs, value)

    def means(one):
        levels = one.sites.levels()
        given = [[tf.fill(tf.shape(site.b), 0.25) for site in level] for level in levels]
        values = [one.at_mean(level, mean) for level, mean in zip(levels, given, strict=True)]
        return values, [site.b for site in one.sites]

    model.compile("sgd", loss="mse", estimator=Spy(means))
    ((first, second), _), _ = look(model, x, y, mode)
    kernel, bias = (np.asarray(w) for w in dense[1].weights)
    mean = 1 / (1 + np.exp(-(np.full((5, 2), 0.25) @ kernel + bias)))
    np.testing.assert_allclose(first, ((mean - y) ** 2).mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(second, ((0.25 - y) ** 2).mean(axis=1), rtol=1e-5)


@modes
def test_objective_of_a_step_is_the_loss_at_its_outputs(mode, x, y):
    inputs = keras.Input((3,))
    code = RelaxBernoulli(prior="uniform", kl_weight=0.5)(
        keras.layers.Dense(4, name="code")(inputs)
    )
    model = RelaxModel(inputs, keras.layers.Dense(2)(code))
    model.compile("sgd", loss="mse", loss_weights=2.0, estimator=Spy())
    weight = np.array([1.0, 0.0, 2.0, 1.0, 3.0], "float32")
    f, y_pred = look(model, x, y, mode, weight)
    logits = np.asarray(model.get_layer("code")(x))
    p = 1 / (1 + np.exp(-logits))
    kl = (p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p))).sum(axis=1)
    expected = 2 * weight * ((y - y_pred) ** 2).mean(axis=1) + 0.5 * kl
    np.testing.assert_allclose(f, expected, rtol=1e-5)


@modes
@pytest.mark.parametrize("coupled", [False, True])
def test_coupled_examples_answer_for_the_sum_over_the_batch(coupled, mode, x, y):
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, batch_statistics(inputs))
    spies = {}
    noise = tf.zeros((5, 4))
    for batch_coupled in (coupled, None, not coupled):
        model.compile("sgd", "mse", estimator=Spy(), batch_coupled=batch_coupled)
        model.differentiate(tf.constant(x), tf.constant(y), noise=[noise])
        spies[batch_coupled] = model.estimator.seen
    assert spies[True].shape == (1,)
    assert spies[None].shape == (1,)  # found by itself
    np.testing.assert_allclose(spies[True], [np.sum(spies[False])], rtol=1e-6)


def relaxed(z):
    return 1 / (1 + np.exp(-z / 0.5))


@modes
def test_replay_relaxes_a_level_and_what_depends_on_it_with_the_noise_of_the_pass(mode, x, y):
    """Three sites in a row against NumPy: hard before the level, given at it, recomputed after."""
    layers = [RelaxBernoulli() for _ in range(3)]
    dense = [keras.layers.Dense(2) for _ in range(3)]
    inputs = keras.Input((3,))
    value = inputs
    for linear, layer in zip(dense, layers, strict=True):
        value = layer(linear(value))
    model = RelaxModel(inputs, value)
    for linear in dense:
        linear.bias.assign([0.5, -0.25])
    shift = 0.75

    def replay_shifted(one):
        levels = one.sites.levels()
        values = [one.relaxed(level, [site.z + shift for site in level]) for level in levels]
        return values, [(site.z, site.b, site.draw.noise) for site in one.sites]

    model.compile("sgd", loss="mse", estimator=Spy(replay_shifted, 0.5))
    (replays, sites), _ = look(model, x, y, mode)
    assert len(replays) == 3
    for level, replayed in enumerate(replays):
        value = sites[level - 1][1] if level else x
        value = relaxed(sites[level][0] + shift)
        for later in range(level + 1, 3):
            kernel, bias = (np.asarray(w) for w in dense[later].weights)
            value = relaxed(value @ kernel + bias + sites[later][2])
        np.testing.assert_allclose(replayed, ((value - y) ** 2).mean(axis=1), rtol=1e-5)


@modes
def test_replay_leaves_earlier_and_parallel_sites_as_they_must_be(mode, x, y):
    """The sum of a hard chain and a site beside it: only what is replayed may move."""
    inputs = keras.Input((3,))
    first = RelaxBernoulli()(keras.layers.Dense(2)(inputs))
    second = RelaxBernoulli()(keras.layers.Dense(2)(first))
    beside = RelaxBernoulli()(keras.layers.Dense(2)(inputs))
    model = RelaxModel(inputs, {"first": first, "second": second, "beside": beside})
    outputs = []

    def keep_prediction(y_true, y_pred):
        outputs.append(y_pred)
        return keras.ops.mean((y_true - y_pred) ** 2, axis=-1)

    def last_level(one):
        outputs.clear()
        level = one.sites.levels()[-1]
        one.relaxed(level, [site.z for site in level])
        return list(outputs), [(site.z, site.b) for site in one.sites]

    names = ["beside", "first", "second"]
    model.compile(
        "sgd",
        loss=dict.fromkeys(names, keep_prediction),
        estimator=Spy(last_level, 0.5),
        run_eagerly=True,
    )
    step = run(
        lambda: [
            model.differentiate(tf.constant(x), dict.fromkeys(names, tf.constant(y))),
            model.estimator.seen,
        ][1],
        mode,
    )
    values, sites = keras.tree.map_structure(np.asarray, step)
    order = {"first": 0, "second": 1, "beside": 2}
    got = dict(zip(names, values, strict=True))
    np.testing.assert_array_equal(got["first"], sites[order["first"]][1])
    if mode == "graph":  # first and beside share level 0, so `second` alone is replayed
        np.testing.assert_allclose(got["second"], relaxed(sites[1][0]), rtol=1e-5)
        np.testing.assert_array_equal(got["beside"], sites[2][1])
    else:  # a level of its own for every call, in their order
        np.testing.assert_array_equal(got["second"], sites[1][1])
        np.testing.assert_allclose(got["beside"], relaxed(sites[2][0]), rtol=1e-5)


@modes
def test_dropout_is_fresh_in_every_step(mode):
    """The samples cannot differ at logits of 80, so what differs are the masks."""
    inputs = keras.Input((3,))
    code = keras.layers.Dropout(0.5)(RelaxBernoulli()(80 * inputs))
    model = RelaxModel(inputs, code)
    model.compile("sgd", loss="mse", estimator=Spy(replay_every_level))
    x = np.ones((20, 3), "float32")

    def step():
        result = model.differentiate(tf.constant(x), tf.constant(x))
        return model.estimator.seen[1][0], result.y_pred

    step = step if mode == "eager" else tf.function(step)
    (first_replay, first), (second_replay, second) = step(), step()
    assert set(np.unique(first)) == {0.0, 2.0}
    assert (np.asarray(first) != np.asarray(second)).any()
    for replayed, prediction in ((first_replay, first), (second_replay, second)):
        np.testing.assert_allclose(replayed, np.mean((prediction - x) ** 2, axis=1), rtol=1e-6)


@pytest.mark.parametrize("run_eagerly", [True, False], ids=["eager", "graph"])
@pytest.mark.parametrize("estimator", ["relax", "concrete"])
def test_batch_statistics_move_once_per_step_and_as_in_keras(estimator, run_eagerly, rng):
    """Logits of +-80 make a stock model of the stochastic one; nothing else is trained."""
    # Batches of four with one positive value per column: no column is constant.
    column = np.array([[1.0], [-1.0], [-1.0], [-1.0]], "float32")
    batches = [k * rng.permuted(np.tile(column, 3), axis=0) for k in (1, 2, 3)]
    x, y = np.concatenate(batches), np.zeros((12, 3), "float32")

    def build(model_class, sample):
        inputs = keras.Input((3,))
        before = keras.layers.BatchNormalization(
            momentum=0.5, center=False, scale=False, name="before"
        )
        after = keras.layers.BatchNormalization(momentum=0.5, name="after")
        return model_class(inputs, after(sample(80 * before(inputs))))

    model = build(RelaxModel, RelaxBernoulli())
    model.compile(keras.optimizers.SGD(0.0), "mse", estimator=estimator, run_eagerly=run_eagerly)
    stock = build(
        keras.Model, keras.layers.Lambda(lambda logits: keras.ops.cast(logits > 0, "float32"))
    )
    stock.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    for trained in (model, stock):
        trained.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for name in ("before", "after"):
        layer, expected = model.get_layer(name), stock.get_layer(name)
        np.testing.assert_allclose(layer.moving_mean, expected.moving_mean, rtol=1e-5)
        np.testing.assert_allclose(layer.moving_variance, expected.moving_variance, rtol=1e-5)


@modes
def test_class_weight_reaches_the_examples(mode, rng):
    x = rng.normal(size=(4, 3)).astype("float32")
    labels = np.array([0, 1, 1, 0])
    inputs = keras.Input((3,))
    model = RelaxModel(
        inputs, keras.layers.Dense(2)(RelaxBernoulli()(keras.layers.Dense(2)(inputs)))
    )
    kept = tf.Variable(tf.zeros(4))
    kept_prediction = tf.Variable(tf.zeros((4, 2)))

    def keep(y_true, y_pred):
        kept_prediction.assign(y_pred)
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)

    model.compile(
        "sgd", keep, estimator=Spy(lambda one: kept.assign(one.f)), run_eagerly=mode == "eager"
    )
    weights = {0: 0.5, 1: 3.0}
    model.fit(x, labels, batch_size=4, shuffle=False, class_weight=weights, verbose=0)
    logits = np.asarray(kept_prediction)
    nll = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), labels]
    expected = nll * np.array([0.5, 3.0, 3.0, 0.5])
    np.testing.assert_allclose(kept, expected, rtol=1e-5)
