"""What cannot work says so, names who is meant and what to do, and leaves the weights alone."""

import contextlib
import re
import runpy

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tf_relax import RelaxModel, estimators
from tf_relax.layers import RelaxBernoulli, RelaxCategorical, RelaxNormal
from tf_relax.losses import BernoulliNLL, BlackBox
from tf_relax.surrogates import Network, Surrogate

X = np.ones((4, 3), "float32")
Y = np.zeros((4, 4), "float32")

modes = pytest.mark.parametrize("run_eagerly", [True, False], ids=["eager", "graph"])


def bernoulli(**arguments):
    return RelaxBernoulli(**{"name": "code", **arguments})


def relax(**arguments):
    return estimators.Relax(**{"surrogate": "objective", **arguments})


def functional(layer, units=4):
    inputs = keras.Input((3,))
    code = layer(keras.layers.Dense(4, name="encoder")(inputs))
    return RelaxModel(inputs, keras.layers.Dense(units, name="decoder")(code))


class Subclassed(RelaxModel):
    """Calls its stochastic layer in a way that is up to the test."""

    def __init__(self, layer, call_layer, **kwargs):
        super().__init__(**kwargs)
        self.encoder = keras.layers.Dense(4)
        self.layer = layer
        self.decoder = keras.layers.Dense(4)
        self.call_layer = call_layer

    def build(self, input_shape):
        self.encoder.build(input_shape)
        self.layer.build((None, 4))
        self.decoder.build((None, 4))

    def call(self, x, training=None):
        return self.decoder(self.call_layer(self.layer, self.encoder(x), training))


@contextlib.contextmanager
def unchanged(model):
    """Asserts that the block changes no weight, nor what an estimator has learned."""
    state = getattr(model, "estimator_state", None)  # a plain Keras model has none
    variables = [*model.weights, *([] if state is None else state.variables)]
    before = [v.numpy() for v in variables]
    yield
    for old, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy(), err_msg=variable.path)


def refuses(error, match, model, x=X, y=Y, **fit_arguments):
    with unchanged(model), pytest.raises(error, match=match) as caught:
        model.fit(x, y, verbose=0, **fit_arguments)
    return str(caught.value)


# ------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("estimator", ["Relax", "Rebar", "Lax", "Dlax"])
def test_temperature(estimator, temperature):
    message = f"{estimator}: `temperature`.*finite and above 0.*Received: {temperature}"
    with pytest.raises(ValueError, match=message):
        getattr(estimators, estimator)(temperature=temperature)


@pytest.mark.parametrize("estimator", ["Relax", "Lax", "Dlax", "Nvil", "Reinforce"])
@pytest.mark.parametrize(
    ("surrogate", "match"),
    [
        ("net", r"'net'.*\['network', 'objective', 'sum'\]"),
        (keras.layers.Dense(1), r"\['network', 'objective', 'sum'\].*Surrogate"),
    ],
    ids=["name", "object"],
)
def test_unknown_surrogate(estimator, surrogate, match):
    with pytest.raises(ValueError, match=match):
        getattr(estimators, estimator)(surrogate=surrogate)


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ({"inference": "median"}, "'code'.*`inference`.*'sample', 'mode', 'mean'.*'median'"),
        ({"kl": "exact"}, "'code'.*`kl`.*'analytic'.*'sampled'.*'exact'"),
        ({"prior": "unifrom"}, "'code'.*`prior`.*'uniform', 'learned'.*'unifrom'"),
        ({"prior": [0.0, np.inf]}, "'code'.*prior.*finite"),
    ],
    ids=["inference", "kl", "prior", "prior_logits"],
)
def test_unknown_option(argument, match):
    with pytest.raises(ValueError, match=match):
        bernoulli(**argument)


@pytest.mark.parametrize("estimator", ["relaxx", None, 3, estimators.Relax])
def test_unknown_estimator(estimator):
    model = functional(bernoulli())
    names = ["concrete", "rebar", "reinforce", "relax", "straight_through"]
    assert set(names) <= set(estimators.names())
    with unchanged(model), pytest.raises(ValueError, match=".*".join(names)):
        model.compile("sgd", "mse", estimator=estimator)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: estimators.Reinforce(baseline="mean"), "Reinforce: `baseline`.*'mean'"),
        (lambda: estimators.Reinforce(decay=1.0), r"Reinforce: `decay`.*\[0, 1\).*1.0"),
        (lambda: estimators.StraightThrough("hard"), "StraightThrough: `backward`.*'hard'"),
        (lambda: estimators.Nvil(decay=-0.1), r"Nvil: `decay`.*\[0, 1\).*-0.1"),
        (lambda: estimators.ReinMax(0.99), "ReinMax: `temperature`.*at least 1.*0.99"),
        (lambda: estimators.ReinMax(float("nan")), "ReinMax: `temperature`.*at least 1.*nan"),
        (lambda: estimators.Concrete(0), "Concrete: `temperature`.*above 0.*Received: 0"),
        (lambda: estimators.Concrete(float("nan")), "Concrete: `temperature`.*above 0.*nan"),
        (
            lambda: estimators.GumbelStraightThrough(-1.0),
            "GumbelStraightThrough: `temperature`.*above 0.*-1.0",
        ),
        (
            lambda: estimators.StraightThrough("relaxed", temperature=0),
            "StraightThrough: `temperature`.*above 0.*Received: 0",
        ),
        (lambda: BlackBox("mse"), "BlackBox needs a function.*'mse'"),
    ],
    ids=[
        "baseline",
        "decay",
        "backward",
        "nvil_decay",
        "reinmax",
        "reinmax_nan",
        "concrete",
        "concrete_nan",
        "gumbel",
        "straight_through",
        "black_box",
    ],
)
def test_unknown_option_elsewhere(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


@pytest.mark.parametrize("num_samples", [1, 0, -2])
@pytest.mark.parametrize("estimator", ["LeaveOneOut", "Arms", "DoubleCV", "Rodeo"])
def test_one_sample_has_no_others(estimator, num_samples):
    message = f"{estimator} compares samples.*at least 2.*num_samples={num_samples}"
    with pytest.raises(ValueError, match=message):
        getattr(estimators, estimator)(num_samples=num_samples)


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("argument", ["num_samples", "num_conditional"])
@pytest.mark.parametrize("estimator", ["Relax", "Rebar"])
def test_fewer_than_one_sample(estimator, argument, value):
    message = f"{estimator}: `{argument}` must be at least 1.*{value}"
    with pytest.raises(ValueError, match=message):
        getattr(estimators, estimator)(**{argument: value})


# ------------------------------------------------------------------------------ wrong couples

REFUSED = {
    RelaxBernoulli: {"lax", "rejection", "reparameterization"},
    RelaxNormal: {
        "arms",
        "concrete",
        "disarm",
        "double_cv",
        "exact",
        "gumbel_straight_through",
        "muprop",
        "rebar",
        "reinmax",
        "rejection",
        "relax",
        "rodeo",
        "straight_through",
    },
}


def normal(**arguments):
    return RelaxNormal(**{"name": "code", **arguments})


MAKE = {RelaxBernoulli: bernoulli, RelaxNormal: normal}


@pytest.mark.parametrize("layer_class", REFUSED)
def test_these_couples_and_no_others_are_refused(layer_class):
    for name in estimators.names():
        refused = name in REFUSED[layer_class]
        with pytest.raises(ValueError, match="'code'") if refused else contextlib.nullcontext():
            estimators.get(name).check(MAKE[layer_class]())


@modes
@pytest.mark.parametrize(
    ("layer_class", "name"),
    [(layer_class, name) for layer_class, names in REFUSED.items() for name in sorted(names)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_estimator_and_layer_that_do_not_go_together(layer_class, name, run_eagerly):
    model = functional(MAKE[layer_class]())
    model.compile("sgd", "mse", estimator=name, run_eagerly=run_eagerly)
    estimator = type(estimators.get(name)).__name__
    refuses(ValueError, rf"{estimator}\(.*{layer_class.__name__} 'code'.*Use '", model)


def test_one_layer_of_two_that_does_not_go_with_the_estimator():
    inputs = keras.Input((3,))
    both = [
        bernoulli(name="bits")(keras.layers.Dense(2)(inputs)),
        normal(name="reals")(keras.layers.Dense(4)(inputs)),
    ]
    model = RelaxModel(inputs, keras.layers.Dense(4)(keras.layers.Concatenate()(both)))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=True)
    refuses(ValueError, r"Relax\(.*RelaxNormal 'reals'", model)
    model.compile("sgd", "mse", estimator="lax", run_eagerly=True)
    refuses(ValueError, r"Lax\(.*RelaxBernoulli 'bits'", model)
    model.compile("sgd", "mse", estimator="dlax", run_eagerly=True)
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


# ------------------------------------------------------------------------------ importance samples


@pytest.mark.parametrize("importance_samples", [None, 1, 0, -1])
def test_vimco_compares_samples(importance_samples):
    model = functional(bernoulli(prior="uniform"))
    message = rf"Vimco.*K >= 2.*`importance_samples=K`.*importance_samples={importance_samples}"
    with unchanged(model), pytest.raises(ValueError, match=message):
        model.compile(
            "sgd", BernoulliNLL(), estimator="vimco", importance_samples=importance_samples
        )


WEIGHTED = {
    "concrete",
    "gumbel_straight_through",
    "reinforce",
    "reinmax",
    "reparameterization",
    "straight_through",
    "vimco",
}


@pytest.mark.parametrize("name", sorted(set(estimators.names()) - WEIGHTED))
def test_estimators_of_a_mean_over_samples_refuse_the_logarithm_of_one(name):
    model = functional(bernoulli(prior="uniform"))
    estimator = type(estimators.get(name)).__name__
    message = rf"{estimator}\(.*mean over samples.*importance_samples=3.*'vimco' or 'reinforce'"
    with unchanged(model), pytest.raises(ValueError, match=message):
        model.compile("sgd", BernoulliNLL(), estimator=name, importance_samples=3)


@pytest.mark.parametrize("name", sorted(WEIGHTED - {"reparameterization"}))
def test_the_others_take_it(name):
    model = functional(bernoulli(prior="uniform"))
    model.compile("sgd", BernoulliNLL(), estimator=name, importance_samples=2, run_eagerly=True)
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("importance_samples", [0, -1])
@pytest.mark.parametrize("name", ["relax", "reinforce", "concrete", "disarm", "exact"])
def test_fewer_than_one_importance_sample(name, importance_samples):
    model = functional(bernoulli(prior="uniform"))
    message = f"`importance_samples` must be at least 1.*{importance_samples}"
    with unchanged(model), pytest.raises(ValueError, match=message):
        model.compile("sgd", BernoulliNLL(), estimator=name, importance_samples=importance_samples)


@modes
@pytest.mark.parametrize("name", ["vimco", "reinforce", "concrete"])
def test_importance_samples_without_a_prior(name, run_eagerly):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(4)(code), name="model")
    model.compile(
        "sgd", BernoulliNLL(), estimator=name, importance_samples=3, run_eagerly=run_eagerly
    )
    message = "RelaxModel 'model'.*importance_samples=3.*no prior.*prior='learned'"
    refuses(ValueError, message, model)


# ------------------------------------------------------------------------------ enumeration


@modes
@pytest.mark.parametrize(
    ("units", "message"),
    [
        ((7,), r"128 joint outcomes \(128 of 'first'\).*max_outcomes=64.*'relax'"),
        ((4, 5), r"512 joint outcomes \(16 of 'first', 32 of 'second'\).*max_outcomes=64"),
        ((100,), r"1.268e\+30 joint outcomes \(1.27e\+30 of 'first'\)"),
    ],
    ids=["one", "two", "huge"],
)
def test_too_many_outcomes(units, message, run_eagerly):
    inputs = value = keras.Input((3,))
    for size, name in zip(units, ("first", "second"), strict=False):
        value = bernoulli(name=name)(keras.layers.Dense(size)(value))
    model = RelaxModel(inputs, keras.layers.Dense(4)(value))
    model.compile("sgd", "mse", estimator="exact", run_eagerly=run_eagerly)
    refuses(ValueError, f"Exact would have to enumerate {message}", model)


def test_as_many_outcomes_as_are_allowed():
    model = functional(bernoulli())
    for largest, error in ((16, None), (15, ValueError)):
        estimator = estimators.Exact(max_outcomes=largest)
        model.compile("sgd", "mse", estimator=estimator, run_eagerly=True)
        with pytest.raises(error, match="16 joint") if error else contextlib.nullcontext():
            model.fit(X, Y, verbose=0)


def test_outcomes_of_unknown_number():
    inputs = keras.Input((None, 2))
    code = bernoulli()(inputs)
    model = RelaxModel(inputs, keras.ops.sum(code, axis=1))
    model.compile("sgd", "mse", estimator="exact")
    data = tf.data.Dataset.from_generator(
        lambda: iter([(np.ones((4, 3, 2)), np.ones((4, 2)))]),
        output_signature=(tf.TensorSpec((4, None, 2)), tf.TensorSpec((4, 2))),
    )
    with pytest.raises(ValueError, match=r"Exact cannot enumerate RelaxBernoulli 'code'.*fixed"):
        model.fit(data, shuffle=False, verbose=0)


class TensorFlowNoise(keras.layers.Layer):
    """Random numbers that no variable remembers."""

    def call(self, x):
        return x + tf.random.uniform(tf.shape(x))


NOISE = {
    "dropout": (lambda: keras.layers.Dropout(0.5, name="drop"), "seed_generator"),
    "gaussian": (lambda: keras.layers.GaussianNoise(1.0), "seed_generator"),
    "keras_random": (
        lambda: keras.layers.Lambda(lambda x: x + keras.random.uniform((1, 4))),
        "seed",
    ),
    "lambda": (
        lambda: keras.layers.Lambda(lambda x: x + tf.random.normal((1, 4))),
        "RandomStandardNormal",
    ),
    "layer": (TensorFlowNoise, "RandomUniform"),
}


@pytest.mark.parametrize(
    ("noise", "run_eagerly"),
    [
        *[(name, False) for name in NOISE],
        # Eagerly there is no graph in which a TensorFlow operation could be found.
        *[(name, True) for name in ("dropout", "gaussian", "keras_random")],
    ],
)
def test_random_objective_is_not_enumerated(noise, run_eagerly):
    make, culprit = NOISE[noise]
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(4)(make()(code)), name="model")
    model.compile("sgd", "mse", estimator="exact", run_eagerly=run_eagerly)
    message = rf"Exact\(.*deterministic.*RelaxModel 'model' draws.*{culprit}.*remove dropout"
    refuses(ValueError, message, model)


def random_cost(y_true, y_pred):
    return np.random.default_rng().normal(size=len(y_pred))


@modes
def test_random_black_box_is_not_enumerated(run_eagerly):
    model = encoder(bernoulli())
    model.compile("sgd", BlackBox(random_cost), estimator="exact", run_eagerly=run_eagerly)
    error = (ValueError, tf.errors.InvalidArgumentError)
    message = "(?s)Exact.*deterministic.*BlackBox.*two values for the same samples"
    refuses(error, message, model)


@modes
def test_deterministic_black_box_is_enumerated(run_eagerly):
    model = encoder(bernoulli())
    model.compile("sgd", BlackBox(cost), estimator="exact", run_eagerly=run_eagerly)
    before = model.layers[1].get_weights()
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()
    assert all((a != b).any() for a, b in zip(before, model.layers[1].get_weights(), strict=True))


@modes
def test_batch_statistics_of_samples_are_not_enumerated(run_eagerly):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    outputs = keras.layers.Dense(4)(keras.layers.BatchNormalization()(code))
    model = RelaxModel(inputs, outputs)
    model.compile("sgd", "mse", estimator="exact", run_eagerly=run_eagerly)
    refuses(ValueError, "Exact enumerates.*one example.*batch statistics.*Use 'relax'", model)


@modes
def test_batch_statistics_of_inputs_are(run_eagerly):
    inputs = keras.Input((3,))
    logits = keras.layers.Dense(2)(keras.layers.BatchNormalization()(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(4)(bernoulli()(logits)))
    ways = {"run_eagerly": True} if run_eagerly else {"jit_compile": False}
    model.compile("sgd", "mse", estimator="exact", **ways)
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


# ------------------------------------------------------------------------------ noise


@modes
@pytest.mark.parametrize(
    ("estimator", "shape", "expected"),
    [
        ("relax", (4, 3), "(4, 4)"),
        ("relax", (2, 4, 4), "(4, 4)"),
        (estimators.Relax(num_samples=3), (4, 4), "(3, 4, 4)"),
        ("leave_one_out", (4, 4), "(2, 4, 4)"),
        ("leave_one_out", (3, 4, 4), "(2, 4, 4)"),
        ("disarm", (1, 4, 4), "(2, 4, 4)"),
        (estimators.Arms(num_samples=3), (2, 4, 4), "(3, 4, 4)"),
    ],
)
def test_wrong_number_of_noise_tensors(estimator, shape, expected, run_eagerly):
    model = functional(bernoulli())
    model.compile("sgd", "mse", estimator=estimator)

    def step():
        return model.differentiate(tf.constant(X), tf.constant(Y), noise=[tf.zeros(shape)]).loss

    step = step if run_eagerly else tf.function(step)
    needs, received = (re.escape(str(each)) for each in (expected, shape))
    message = f"'code', needs noise of shape {needs}. Received: shape {received}"
    with unchanged(model), pytest.raises(ValueError, match=message):
        step()


def test_noise_for_fewer_layers_than_there_are():
    inputs = keras.Input((3,))
    first = bernoulli(name="first")(keras.layers.Dense(4)(inputs))
    second = bernoulli(name="second")(keras.layers.Dense(4)(first))
    model = RelaxModel(inputs, second)
    model.compile("sgd", "mse", estimator=relax())
    with pytest.raises(ValueError, match=r"Call 1.*'second', needs noise.*Received: none"):
        model.differentiate(tf.constant(X), tf.constant(Y), noise=[tf.zeros((4, 4))])


def test_noise_for_more_layers_than_there_are():
    model = functional(bernoulli())
    model.compile("sgd", "mse", estimator=relax())
    with pytest.raises(ValueError, match="noise"):
        model.differentiate(tf.constant(X), tf.constant(Y), noise=[tf.zeros((4, 4))] * 2)


def test_wrong_number_of_conditional_noise_tensors():
    model = functional(bernoulli())
    model.compile("sgd", "mse", estimator=estimators.Relax(num_samples=2, num_conditional=2))
    x, y, noise = tf.constant(X), tf.constant(Y), [tf.zeros((2, 4, 4))]
    with pytest.raises(ValueError, match=r"'code', needs noise of shape \(2, 4, 4\)"):
        model.differentiate(x, y, noise=noise, conditional_noise=[tf.zeros((4, 4))])
    model.differentiate(x, y, noise=noise, conditional_noise=[tf.zeros((2, 4, 4))])


# ------------------------------------------------------------------------------ logits


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_logits_that_are_no_floats(dtype):
    with pytest.raises(TypeError, match=f"RelaxBernoulli 'code'.*{dtype}.*Dense"):
        bernoulli()(tf.zeros((2, 3), dtype))


def test_integer_logits_in_a_model():
    inputs = keras.Input((3,), dtype="int32")
    model = RelaxModel(inputs, keras.layers.Dense(4)(bernoulli()(inputs)))
    model.compile("sgd", "mse", estimator=relax())
    refuses(TypeError, "RelaxBernoulli 'code'.*int32", model, X.astype("int32"))


@modes
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite(bad, run_eagerly):
    model = functional(bernoulli(check_numerics=True))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    x = X.copy()
    x[1, 2] = bad
    refuses(tf.errors.InvalidArgumentError, "RelaxBernoulli 'code'.*(NaN|Inf)", model, x)


def test_scalar_logits():
    with pytest.raises(ValueError, match=r"RelaxBernoulli 'code'.*\[batch, \*event\].*scalar"):
        bernoulli()(tf.zeros(()))


def test_a_learned_prior_of_unknown_size():
    with pytest.raises(ValueError, match=r"RelaxBernoulli 'code'.*learned prior.*fix.*'uniform'"):
        bernoulli(prior="learned")(keras.Input((None, 2)))


@pytest.mark.parametrize("surrogate", ["network", "sum"])
def test_a_surrogate_network_of_unknown_size(surrogate):
    inputs = keras.Input((None, 2))
    model = RelaxModel(inputs, bernoulli()(inputs))
    with pytest.raises(ValueError, match=r"network.*fixed size.*fix.*surrogate='objective'"):
        model.compile("sgd", "mse", estimator=relax(surrogate=surrogate))
    assert model.estimator is None
    model.compile("sgd", "mse", estimator=relax())


# ------------------------------------------------------------------------------ losses


def scalar_loss(y_true, y_pred):
    return keras.ops.mean((y_true - y_pred) ** 2)


class ScalarLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return scalar_loss(y_true, y_pred)


@modes
@pytest.mark.parametrize("loss", [scalar_loss, ScalarLoss(name="scalar_loss")])
def test_loss_without_values_per_example(loss, run_eagerly):
    model = functional(bernoulli())
    model.compile("sgd", loss, estimator=relax(), run_eagerly=run_eagerly)
    refuses(ValueError, "'scalar_loss'.*one value per example", model)


def two_outputs(container):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    outputs = {name: keras.layers.Dense(4, name=name)(code) for name in ("a", "b")}
    return RelaxModel(inputs, container(outputs))


@pytest.mark.parametrize(
    ("container", "loss"),
    [
        (dict, {"a": "mse", "b": scalar_loss}),
        (dict, {"a": None, "b": scalar_loss}),
        (dict, {"b": scalar_loss}),
        (dict, scalar_loss),
        (lambda outputs: list(outputs.values()), ["mse", scalar_loss]),
        (lambda outputs: list(outputs.values()), [None, scalar_loss]),
        (lambda outputs: list(outputs.values()), {"a": "mse", "b": scalar_loss}),
        (lambda outputs: list(outputs.values()), scalar_loss),
    ],
    ids=["dict", "dict_none", "dict_one", "dict_same", "list", "list_none", "named", "list_same"],
)
def test_one_of_several_losses_without_values_per_example(container, loss):
    model = two_outputs(container)
    model.compile("sgd", loss, estimator=relax(), run_eagerly=True)
    y = container({"a": Y, "b": Y})
    refuses(ValueError, "'scalar_loss'.*one value per example", model, y=y)


@pytest.mark.parametrize("reduction", [None, "none", "mean_with_sample_weight"])
def test_reduction_without_values_per_example(reduction):
    model = functional(bernoulli())
    model.compile(
        "sgd",
        keras.losses.MeanSquaredError(reduction=reduction),
        estimator=relax(),
        run_eagerly=True,
    )
    refuses(ValueError, "reduction.*'sum_over_batch_size' or 'sum'", model)


@modes
def test_scalar_add_loss_that_depends_on_a_sample(run_eagerly):
    def call_layer(layer, logits, training):
        sample = layer(logits, training=training)
        layer.add_loss(keras.ops.mean(keras.ops.abs(sample)))
        return sample

    model = Subclassed(bernoulli(), call_layer, name="model")
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    model(X)
    refuses(ValueError, "RelaxModel 'model'.*scalar `add_loss`.*one value per example", model)


@modes
def test_activity_regularizer_of_a_sample(run_eagerly):
    """Keras makes one scalar of the whole batch of it."""
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(4, activity_regularizer="l2")(code))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    refuses(ValueError, "scalar `add_loss`.*one value per example", model)


class MoreLoss(Subclassed):
    """Adds to the loss what no weight of an example scales."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + keras.ops.mean(keras.ops.abs(y_pred))


@modes
def test_compute_loss_with_a_part_that_ignores_the_weights(run_eagerly):
    model = MoreLoss(bernoulli(), lambda layer, logits, training: layer(logits, training=training))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    model(X)
    # Found in the numbers of a step, where TensorFlow's own errors are all there is.
    error = (ValueError, tf.errors.InvalidArgumentError)
    refuses(error, "(?s)compute_loss.*sample_weight", model)


def test_mismatching_shapes_of_the_likelihood():
    with pytest.raises(ValueError, match=r"BernoulliNLL.*same shape.*\(2, 3\).*\(2, 3, 1\)"):
        BernoulliNLL()(np.zeros((2, 3)), np.zeros((2, 3, 1)))
    with pytest.raises(ValueError, match="same shape"):
        BernoulliNLL()(np.zeros((2, 1)), np.zeros((2, 3)))


# ------------------------------------------------------------------------------ black boxes


def cost(y_true, y_pred):
    return np.abs(y_true - y_pred).sum(axis=1)


def encoder(layer):
    """A model that ends with its samples: no layer after them could learn from a black box."""
    inputs = keras.Input((3,))
    return RelaxModel(inputs, layer(keras.layers.Dense(4)(inputs)))


DIFFERENTIATING = {
    "concrete",
    "double_cv",
    "gumbel_straight_through",
    "muprop",
    "rebar",
    "reinmax",
    "rejection",
    "reparameterization",
    "rodeo",
    "straight_through",
}


def test_these_estimators_and_no_others_differentiate_the_objective():
    names = {n for n in estimators.names() if estimators.get(n).needs_differentiable_objective}
    assert names == DIFFERENTIATING


@pytest.mark.parametrize("estimator", sorted(DIFFERENTIATING))
@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside_another"])
def test_estimators_that_differentiate_refuse_a_black_box(estimator, others):
    loss = BlackBox(cost, name="cost")
    model = two_outputs(dict) if others else functional(bernoulli())
    loss = {"a": "mse", "b": loss} if others else loss
    with (
        unchanged(model),
        pytest.raises(ValueError, match=r"'cost' is a BlackBox.*relax.*reinforce"),
    ):
        model.compile("sgd", loss, estimator=estimator)


NO_OBJECTIVE = "surrogate, Objective.*RelaxBernoulli 'code'.*BlackBox.*surrogate='network'"


@pytest.mark.parametrize("estimator", ["Relax", "Dlax"])
def test_surrogate_that_needs_what_a_black_box_does_not_give(estimator):
    model = encoder(bernoulli())
    estimator = getattr(estimators, estimator)(surrogate="objective")
    with unchanged(model), pytest.raises(ValueError, match=NO_OBJECTIVE):
        model.compile("sgd", BlackBox(cost), estimator=estimator)
    assert model.estimator is None


@modes
def test_surrogate_that_needs_what_a_black_box_does_not_give_to_an_unbuilt_model(run_eagerly):
    model = RelaxModel([keras.layers.Dense(4), bernoulli()])
    model.compile("sgd", BlackBox(cost), estimator=relax(), run_eagerly=run_eagerly)
    refuses(ValueError, NO_OBJECTIVE, model)


def test_surrogate_that_needs_what_indices_do_not_give():
    inputs = keras.Input((3,))
    index = RelaxCategorical(output="index", name="kind")(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, keras.layers.Embedding(4, 4)(index))
    message = "surrogate, Objective.*RelaxCategorical 'kind'.*indices.*surrogate='network'"
    with unchanged(model), pytest.raises(ValueError, match=message):
        model.compile("sgd", "mse", estimator=relax())
    model.compile("sgd", "mse", estimator=relax(surrogate="network"))


def test_black_box_does_not_compile():
    model = functional(bernoulli())
    with (
        unchanged(model),
        pytest.raises(ValueError, match=r"'cost' is a BlackBox.*jit_compile=False"),
    ):
        model.compile("sgd", BlackBox(cost, name="cost"), jit_compile=True)


@modes
@pytest.mark.parametrize(
    ("wrong", "shape"),
    [
        (lambda y_true, y_pred: cost(y_true, y_pred).mean(), r"\(\)"),
        (lambda y_true, y_pred: np.abs(y_true - y_pred), r"\(4, 4\)"),
        (lambda y_true, y_pred: cost(y_true, y_pred)[:2], r"\(2,\)"),
        (lambda y_true, y_pred: cost(y_true, y_pred)[:, None], r"\(4, 1\)"),
    ],
    ids=["scalar", "elements", "too_few", "column"],
)
def test_black_box_of_the_wrong_shape(wrong, shape, run_eagerly):
    model, estimator = encoder(bernoulli()), relax(surrogate=Network(units=(2,)))
    loss = BlackBox(wrong, name="cost")
    model.compile("sgd", loss, estimator=estimator, run_eagerly=run_eagerly)
    message = rf"BlackBox 'cost' needs one cost per example, shape \(4,\).*returned shape {shape}"
    # TensorFlow turns the ValueError into one of its own on the way through the graph.
    refuses((ValueError, tf.errors.InvalidArgumentError), message, model)


@modes
def test_black_box_that_raises(run_eagerly):
    def broken(y_true, y_pred):
        raise ZeroDivisionError("out of apples")

    model, estimator = encoder(bernoulli()), relax(surrogate=Network(units=(2,)))
    model.compile("sgd", BlackBox(broken), estimator=estimator, run_eagerly=run_eagerly)
    refuses((ZeroDivisionError, tf.errors.OpError), "out of apples", model)


# ------------------------------------------------------------------------------ where samples hide


INSIDE = "RelaxBernoulli 'code'.*(tf.map_fn|tf.function)"


@modes
def test_map_fn(run_eagerly):
    """As many units as examples: the shapes would fit, the gradient would not."""

    def call_layer(layer, logits, training):
        return tf.map_fn(lambda row: layer(row, training=training), logits)

    model = Subclassed(bernoulli(), call_layer)
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    refuses(RuntimeError, f"{INSIDE}.*whole batch", model)


class Cell(keras.layers.Layer):
    """A recurrent cell with a stochastic state."""

    state_size = output_size = 4

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer
        self.dense = keras.layers.Dense(4)

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1] + 4))
        self.layer.build((None, 4))

    def call(self, x, states, training=None):
        logits = self.dense(keras.ops.concatenate([x, states[0]], axis=-1))
        sample = self.layer(logits, training=training)
        return sample, [sample]


def recurrent(unroll):
    inputs = keras.Input((2, 3))
    layer = bernoulli(prior="uniform")
    outputs = keras.layers.RNN(Cell(layer), unroll=unroll)(inputs)
    return RelaxModel(inputs, keras.layers.Dense(4)(outputs))


def test_recurrent_loop():
    model = recurrent(unroll=False)
    model.compile("sgd", "mse", estimator=relax())
    refuses(RuntimeError, f"{INSIDE}.*unroll=True", model, np.ones((4, 2, 3), "float32"))


@modes
def test_unrolled_recurrent_loop_works(run_eagerly):
    model = recurrent(unroll=True)
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    before = [v.numpy() for v in model.trained_variables]
    x = np.ones((4, 2, 3), "float32")
    sites = model.differentiate(tf.constant(x), tf.constant(Y)).sites
    assert [site.name for site in sites] == ["code", "code[1]"]
    assert len(sites.levels()) == 2
    model.fit(x, Y, verbose=0)
    for a, b in zip(before, model.trained_variables, strict=True):
        assert (a != b.numpy()).any(), b.path


@modes
@pytest.mark.parametrize("traced_before", [False, True])
def test_inner_tf_function(traced_before, run_eagerly):
    layer = bernoulli()

    @tf.function
    def inner(logits):
        return layer(logits, training=True)

    model = Subclassed(layer, lambda layer, logits, training: inner(logits))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    if traced_before:
        model(X)
    # Eagerly, TensorFlow asks the inner function for its gradient before anything can be recorded.
    error = (RuntimeError, LookupError)
    refuses(error, "(?s)RelaxBernoulli 'code'.*remove.*inner tf.function", model)


def test_inner_tf_function_beside_a_call_that_is_recorded():
    """The layer was recorded, so only its other call can tell."""
    layer = bernoulli()

    @tf.function
    def inner(logits):
        return layer(logits, training=True)

    def call_layer(layer, logits, training):
        return layer(logits, training=training) + inner(logits)

    model = Subclassed(layer, call_layer)
    model(X)
    model.compile("sgd", "mse", estimator=relax())
    refuses(RuntimeError, "RelaxBernoulli 'code'", model)


def test_layer_that_is_not_called():
    model = Subclassed(bernoulli(), lambda layer, logits, training: layer(logits))
    model.unused = RelaxBernoulli(name="unused")
    model.unused.build((None, 2))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=True)
    model(X)
    refuses(RuntimeError, "RelaxBernoulli 'unused' was not recorded", model)


@modes
def test_model_without_stochastic_layer(run_eagerly):
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, keras.layers.Dense(4)(inputs), name="plain")
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    refuses(ValueError, "RelaxModel 'plain' has no stochastic layer.*RelaxBernoulli", model)


def test_predict_inside_record():
    model = functional(bernoulli())
    with (
        unchanged(model),
        pytest.raises(RuntimeError, match=r"'code'.*call the model itself"),
        tf_relax.record(),
    ):
        model.predict(X, verbose=0)


def test_calls_in_another_order_when_the_pass_is_repeated():
    second = RelaxBernoulli(name="second")
    calls = []

    def call_layer(layer, logits, training):
        calls.append(1)
        first = layer if len(calls) % 2 else model.second
        other = model.second if first is layer else layer
        return other(first(logits, training=training), training=training)

    model = Subclassed(bernoulli(), call_layer)
    model.second = second
    model(X)
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=True)
    refuses(RuntimeError, "called in another order.*Python state", model)


# ------------------------------------------------------------------------------ gradients


class Unused(Network):
    """A network with a variable that it does not use."""

    def build(self, *shapes):
        super().build(*shapes)
        self.unused = self.add_weight(shape=(2,), name="unused")


class Constant(Surrogate):
    """A surrogate whose value does not depend on z, nor on its variable."""

    def build(self, *shapes):
        self.constant = self.add_weight(shape=(), name="constant")

    def call(self, z, logits, context=None):
        return tf.zeros(tf.shape(z)[:1])


@modes
@pytest.mark.parametrize(
    ("surrogate", "name"), [(Unused(units=(2,)), "unused"), (Constant(), "constant")]
)
def test_surrogate_variable_without_gradient(surrogate, name, run_eagerly):
    surrogate = type(surrogate).from_config(surrogate.get_config())
    model, estimator = functional(bernoulli()), relax(surrogate=surrogate)
    model.compile("sgd", "mse", estimator=estimator, run_eagerly=run_eagerly)
    refuses(ValueError, f"surrogate variable.*{name}.*no gradient.*trainable=False", model)


@modes
@pytest.mark.parametrize("cut", [tf.stop_gradient, tf.round, lambda x: tf.cast(x > 0.5, x.dtype)])
def test_objective_without_derivative(cut, run_eagerly):
    def call_layer(layer, logits, training):
        return cut(layer(logits, training=training))

    model = Subclassed(bernoulli(), call_layer)
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    model(X)
    message = "no derivative.*RelaxBernoulli 'code'.*surrogate='network'.*reinforce"
    refuses(ValueError, message, model)


def test_operation_without_second_derivative():
    """A part of the temperature's gradient would be lost; the rest alone points elsewhere."""
    inputs = keras.Input((2, 2, 1))
    code = bernoulli()(keras.layers.Conv2D(1, 1)(inputs))
    model = RelaxModel(inputs, keras.layers.Resizing(3, 3)(code) ** 2)
    model.compile("sgd", BernoulliNLL(), estimator=relax())
    x, y = np.ones((4, 2, 2, 1), "float32"), np.ones((4, 3, 3, 1), "float32")
    refuses(ValueError, "second derivative.*surrogate='network'", model, x, y)


@pytest.mark.parametrize("run_eagerly", [True, False], ids=["eager", "graph"])
def test_training_in_a_plain_keras_model(run_eagerly):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4)(code))
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    refuses(LookupError, "RelaxBernoulli 'code'.*RelaxModel.*tf.stop_gradient", model)


@pytest.mark.parametrize("inference", ["sample", "mode"])
@pytest.mark.parametrize("training", [True, False])
def test_gradient_tape_outside_of_a_relax_model(training, inference):
    layer = bernoulli(inference=inference)
    logits = tf.Variable([[0.5, -1.0]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(logits, training=training))
    with pytest.raises(LookupError, match=r"RelaxBernoulli 'code'.*RelaxModel.*tf.stop_gradient"):
        tape.gradient(total, logits)


def test_stop_gradient_is_the_way_out():
    logits = tf.Variable([[0.5, -1.0]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.stop_gradient(bernoulli()(logits)) * logits)
    assert set(tape.gradient(total, logits).numpy().ravel()) <= {0.0, 1.0}


def test_mean_has_an_ordinary_gradient():
    logits = tf.Variable([[0.0]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(bernoulli(inference="mean")(logits, training=False))
    np.testing.assert_allclose(tape.gradient(total, logits), [[0.25]])


# ------------------------------------------------------------------------------ optimizers, Keras


def test_model_that_was_not_compiled():
    model = functional(bernoulli())
    refuses(ValueError, "compile", model)


def test_targets_are_missing():
    model = functional(bernoulli())
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=True)
    refuses(ValueError, "(?i)target|`?y`?", model, y=None)


def test_optimizer_that_scales_the_loss_by_itself():
    model = functional(bernoulli())
    with unchanged(model), pytest.raises(ValueError, match="Wrap the pair instead"):
        model.compile(keras.optimizers.Adam(loss_scale_factor=8.0), "mse")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(backend, monkeypatch):
    """Keras answers with another backend; nothing but the import of the package is run."""
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(ImportError, match=f"'{backend}'.*KERAS_BACKEND=tensorflow"):
        runpy.run_path(tf_relax.__file__)


def test_several_replicas(monkeypatch):
    class Strategy:
        num_replicas_in_sync = 2

    model = functional(bernoulli())
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=True)
    monkeypatch.setattr(tf.distribute, "get_strategy", Strategy)
    with pytest.raises(RuntimeError, match="does not train on 2 replicas"):
        model.differentiate(tf.ones((2, 3)), tf.ones((2, 4)))


# ------------------------------------------------------------------------------ earlier versions


def test_layers_that_held_what_estimators_learn():
    config = {**bernoulli().get_config(), "surrogate": "sum", "temperature": 0.1, "scale": 1.0}
    with pytest.raises(ValueError, match=r"RelaxBernoulli 'code'.*tf_relax 0\.1.*build the model"):
        RelaxBernoulli.from_config(config)
