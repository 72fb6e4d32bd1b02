"""Different estimators for the layers of one model."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tf_relax
from tests.estimators import two_layers
from tests.estimators.learned import set_learned, taught
from tests.estimators.table import OUTCOMES, Row
from tests.oracles import hermite_rule
from tf_relax._src.estimators import per_layer
from tf_relax.estimators import (
    Arms,
    Disarm,
    DoubleCV,
    Exact,
    LeaveOneOut,
    MuProp,
    Nvil,
    PerLayer,
    Reinforce,
    Relax,
    Rodeo,
    StraightThrough,
)

float64 = pytest.mark.usefixtures("float64")
in_a_row_and_side_by_side = pytest.mark.parametrize("parallel", [False, True])


def mixed(first, second):
    return {"first": first, "second": second}


def label(estimators):
    return "-".join(repr(each) for each in estimators.values())


@float64
@in_a_row_and_side_by_side
@pytest.mark.parametrize(
    "estimators",
    [
        mixed(Reinforce("learned"), MuProp()),
        mixed(MuProp(), Nvil()),
        mixed(LeaveOneOut(2), Reinforce("moving_average")),
        mixed(MuProp(), LeaveOneOut(2)),
        mixed(DoubleCV(2), Rodeo(2)),
    ],
    ids=label,
)
def test_every_weight(estimators, parallel):
    """Every outcome of every sample; both divergences and the priors included."""
    row = Row(PerLayer(estimators), OUTCOMES, OUTCOMES)
    model = two_layers.compiled(row, parallel)
    found = two_layers.mean_step(model, *two_layers.noise_and_weights(model, row))
    exact = two_layers.exact_gradients(parallel)
    assert found.keys() >= exact.keys()
    for path, gradient in exact.items():
        np.testing.assert_allclose(found[path], gradient, atol=1e-9, rtol=0, err_msg=path)


@float64
@in_a_row_and_side_by_side
@pytest.mark.parametrize(
    "estimators",
    [
        mixed(Relax(), Disarm()),
        mixed(Arms(3), Relax(coupled=False)),
        mixed(Relax(surrogate="objective"), Relax(surrogate="network", num_conditional=2)),
        mixed(Relax(num_samples=2), LeaveOneOut(2)),
        mixed("rebar", "nvil"),
        mixed(LeaveOneOut(2), "dlax"),
    ],
    ids=lambda estimators: label(estimators),
)
def test_every_weight_within_its_standard_error(estimators, parallel, seed):
    """100 independent batches: Student's t with 99 degrees of freedom exceeds 6.5 in absolute value
    with probability 3.3e-9, so one of 49 weights does once in 6 million runs.
    """
    model = two_layers.compiled(Row(estimators, None, None), parallel)
    for k, layer in enumerate(model.stochastic_layers):
        layer.seed_generator.state.assign([seed, k])
    step = two_layers.step_function(model, rows=1000)
    runs = [step(None) for _ in range(100)]
    exact = two_layers.exact_gradients(parallel)
    scale = max(np.abs(g).max() for g in exact.values())
    for path, gradient in exact.items():
        found = np.stack([run[path] for run in runs])
        error = found.std(axis=0, ddof=1) / np.sqrt(len(runs))
        assert error.max() < 0.02 * scale, path  # else this would prove nothing
        assert np.all(np.abs(found.mean(axis=0) - gradient) <= 6.5 * error + 1e-9), path


@float64
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("share * g", "g"),
        ("share * g", "-share * g"),
    ],
    ids=["share", "sign"],
)
def test_mutant_is_biased(right, wrong):
    source = inspect.getsource(per_layer)
    assert source.count(right) == 1
    source = source.replace(  # the mutant must not replace the real one in Keras
        "@keras.saving.register_keras_serializable", "@(lambda package: lambda c: c)"
    )
    names = {}
    exec(compile(source.replace(right, wrong), "mutant", "exec"), names)
    row = Row(names["PerLayer"](mixed(LeaveOneOut(2), Reinforce())), OUTCOMES, OUTCOMES)
    model = two_layers.compiled(row)
    found = two_layers.mean_step(model, *two_layers.noise_and_weights(model, row))
    exact = two_layers.exact_gradients()
    assert max(np.abs(found[path] - g).max() for path, g in exact.items()) > 1e-4


def bit_and_normal():
    """x -> a bit -> the mean of a normal unit -> y, which sees both."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((2,))
    bit = tf_relax.layers.RelaxBernoulli(name="bit")(keras.layers.Dense(1, name="logit")(inputs))
    parameters = keras.layers.Dense(2, name="parameters")(bit)
    normal = tf_relax.layers.RelaxNormal(prior="standard", name="normal")(parameters)
    joint = keras.layers.Concatenate()([bit, normal])
    outputs = keras.layers.Dense(1, name="output")(
        keras.layers.Dense(3, "tanh", name="hidden")(joint)
    )
    return tf_relax.RelaxModel(inputs, outputs)


@float64
@pytest.mark.parametrize("normal", ["reparameterization", "lax"])
def test_bits_with_relax_beside_normal_units_of_their_own(normal, seed):
    """Every weight, from 100 batches, against enumeration of the bit and quadrature."""
    model = bit_and_normal()
    estimators = {"bit": taught("relax", temperature=0.5), "normal": normal}
    model.compile("sgd", "mse", estimator=estimators)
    set_learned(model, spread=0.3)
    x, y = tf.constant([[0.4, -1.0]], "float64"), tf.constant([[0.3]], "float64")
    own = model.trainable_variables
    eps, weights = hermite_rule(60)
    with tf.GradientTape() as tape:
        (logit,) = tf.unstack(model.get_layer("logit")(x)[:, 0])
        total = 0.0
        for b in (0.0, 1.0):
            mean, log_scale = tf.unstack(model.get_layer("parameters")(tf.constant([[b]]))[0])
            unit = mean + tf.exp(log_scale) * eps
            joint = tf.stack([tf.fill(unit.shape, tf.constant(b, "float64")), unit], axis=1)
            output = model.get_layer("output")(model.get_layer("hidden")(joint))
            f = tf.reduce_sum(weights * (output - y)[:, 0] ** 2)
            f += (mean**2 + tf.exp(2 * log_scale) - 1) / 2 - log_scale
            total += tf.sigmoid((2 * b - 1) * logit) * f
    exact = tape.gradient(total, [v.value for v in own])
    rows = 1000
    many, targets = tf.repeat(x, rows, axis=0), tf.repeat(y, rows, axis=0)

    @tf.function(autograph=False)
    def step():
        result = model.differentiate(many, targets)
        by_id = {id(v): g for v, g in zip(result.variables, result.gradients, strict=True)}
        return [by_id[id(v)] for v in own]

    for k, layer in enumerate(model.stochastic_layers):
        layer.seed_generator.state.assign([seed, k])
    runs = [[g.numpy() for g in step()] for _ in range(100)]
    scale = max(np.abs(g).max() for g in exact)
    for variable, gradient, *found in zip(own, exact, *runs, strict=True):
        error = np.std(found, axis=0, ddof=1) / 10
        assert error.max() < 0.05 * scale, variable.path
        deviation = np.abs(np.mean(found, axis=0) - gradient)
        assert np.all(deviation <= 6.5 * error + 1e-9), variable.path


def test_one_biased_layer_makes_the_whole_biased():
    estimators = tf_relax.estimators.get(mixed("relax", StraightThrough()))
    assert not estimators.unbiased
    assert tf_relax.estimators.get(mixed("relax", "disarm")).unbiased


def two_bits():
    inputs = keras.Input((3,))
    b_1 = tf_relax.layers.RelaxBernoulli(name="first")(keras.layers.Dense(2)(inputs))
    b_2 = tf_relax.layers.RelaxBernoulli(name="second")(keras.layers.Dense(2)(b_1))
    return tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(b_2))


X, Y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")


def test_each_layer_learns_what_its_estimator_does(tmp_path):
    model = two_bits()
    model.compile("adam", "mse", estimator=mixed(Relax(surrogate="network"), "nvil"))
    model.fit(X, Y, epochs=2, verbose=0)
    state = model.estimator_state
    assert state["first"].scale is None  # a network alone
    assert float(state["second"].mean.value) > 0
    assert state["first"].trainable_variables
    assert state["second"].trainable_variables
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(again.estimator) == repr(model.estimator)
    for a, b in zip(model.trained_variables, again.trained_variables, strict=True):
        np.testing.assert_array_equal(a, b)
    for one in (model, again):
        one.fit(X, Y, shuffle=False, verbose=0)
    for a, b in zip(model.trained_variables, again.trained_variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("estimators", "message"),
    [
        ({"first": "relax"}, r"leaves out \['second'\].*\['first', 'second'\]"),
        ({"first": "relax", "third": "relax"}, r"no stochastic layers \['third'\].*'second'"),
        ({}, "needed for every stochastic layer"),
        (mixed("relax", Exact()), r"Exact\(\) works on all layers.*'second'"),
        (mixed("concrete", "relax"), "Concrete.*works on all layers.*'first'"),
        (mixed(LeaveOneOut(2), LeaveOneOut(3)), "different ways, 2 .* and 3, and cannot"),
        (mixed(Disarm(), LeaveOneOut(2)), "different ways, 2 .* and 1, and cannot"),
        (mixed("relax", "unknown"), "Unknown estimator 'unknown'"),
    ],
    ids=str,
)
def test_mappings_that_cannot_work(estimators, message):
    model = two_bits()
    model.compile("sgd", "mse", estimator="relax")
    known, learned = model.estimator, model.estimator_state
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", "mse", estimator=estimators)
    assert model.estimator is known
    assert model.estimator_state is learned


def test_what_a_layer_needs_of_those_after_it():
    """MuProp puts later layers at their mean, relax at their relaxed samples."""
    inputs = keras.Input((3,))
    bits = tf_relax.layers.RelaxBernoulli(name="first")(keras.layers.Dense(3)(inputs))
    order = tf_relax.layers.RelaxPermutation(name="second")(keras.layers.Dense(3)(bits))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(order)))
    model.compile("sgd", "mse", estimator=mixed("muprop", "leave_one_out"))
    with pytest.raises(ValueError, match=r"RelaxPermutation 'second' is not known.*'first'"):
        model.differentiate(X, Y)

    counts = tf_relax.layers.RelaxSample(poisson, name="second")(keras.layers.Dense(3)(bits))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(counts))
    model.compile("sgd", "mse", estimator=mixed("relax", "leave_one_out"))
    with pytest.raises(ValueError, match=r"RelaxSample 'second' draws.*would jump.*'network'"):
        model.differentiate(X, Y)
    model.compile("sgd", "mse", estimator=mixed(Relax(surrogate="network"), "leave_one_out"))
    model.differentiate(X, Y)


def poisson(a):
    return tfp.distributions.Poisson(log_rate=a)


def test_importance_weighted_objectives_have_one_estimator():
    with pytest.raises(ValueError, match=r"mean over samples.*importance_samples=3"):
        two_bits().compile("sgd", "mse", estimator=mixed("relax", "nvil"), importance_samples=3)
