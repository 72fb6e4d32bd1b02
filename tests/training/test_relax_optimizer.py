"""RelaxOptimizer against the two plain Keras optimizers that it combines."""

import json
import warnings

import keras
import pytest
import tensorflow as tf

from tests.training.models import assert_same, numpy
from tests.training.optimizer_pairs import (
    adam,
    assert_close,
    data,
    fit,
    make_model,
    sgd,
    two_sgd,
    two_variables,
)
from tf_relax._src.training.relax_optimizer import RelaxOptimizer

# ------------------------------------------------------------------------------ constructing


def test_accepts_names_objects_and_configs():
    default = RelaxOptimizer()
    assert isinstance(default.optimizer, adam)
    assert isinstance(default.surrogate_optimizer, adam)
    main = sgd(0.1)
    config = keras.optimizers.serialize(
        keras.optimizers.RMSprop(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5))
    )
    before = json.dumps(config, default=str)
    optimizer = RelaxOptimizer(main, surrogate_optimizer=config, name="both")
    assert optimizer.optimizer is main
    assert isinstance(optimizer.surrogate_optimizer, keras.optimizers.RMSprop)
    assert optimizer.name == "both"
    assert json.dumps(config, default=str) == before
    assert keras.optimizers.get(optimizer) is optimizer


@pytest.mark.parametrize(
    "argument",
    [
        {"learning_rate": 0.1},
        {"weight_decay": 0.1},
        {"clipnorm": 1.0},
        {"clipvalue": 1.0},
        {"global_clipnorm": 1.0},
        {"use_ema": True},
        {"ema_momentum": 0.9},
        {"ema_overwrite_frequency": 2},
        {"loss_scale_factor": 8.0},
        {"gradient_accumulation_steps": 2},
        {"momentum": 0.9},
    ],
    ids=lambda argument: next(iter(argument)),
)
def test_arguments_of_the_base_class_belong_to_the_inner_optimizers(argument):
    with pytest.raises(ValueError, match=f"{next(iter(argument))}.*Set them on the optimizers"):
        RelaxOptimizer("adam", **argument)


@pytest.mark.parametrize("argument", ["optimizer", "surrogate_optimizer"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "must be an optimizer"),
        (lambda: 0.1, "Could not interpret"),
        (lambda: adam, "Could not interpret"),
        (lambda: RelaxOptimizer(), "must not itself be a RelaxOptimizer"),
        (lambda: keras.optimizers.LossScaleOptimizer(adam()), "Wrap the pair instead"),
        (lambda: adam(loss_scale_factor=8.0), "Wrap the pair instead"),
    ],
    ids=["none", "number", "class", "nested", "loss_scale_optimizer", "loss_scale_factor"],
)
def test_refuses_what_it_cannot_combine(argument, make, message):
    with pytest.raises(ValueError, match=message):
        RelaxOptimizer(**{argument: make()})


def test_refuses_one_object_for_both():
    shared = adam()
    with pytest.raises(ValueError, match="cannot be shared"):
        RelaxOptimizer(shared, surrogate_optimizer=shared)


# ------------------------------------------------------------------------------ routing


@pytest.mark.parametrize("compiled", ["eager", "graph", "xla"])
def test_each_variable_is_updated_by_its_own_optimizer(compiled):
    theta, phi = two_variables()
    optimizer = two_sgd()
    optimizer.build([theta, phi])

    def step():
        optimizer.apply([tf.constant([1.0, 2.0]), tf.constant([1.0])], [theta, phi])

    if compiled != "eager":
        step = tf.function(step, jit_compile=compiled == "xla")
    step()
    assert_same([theta, phi], [[0.75, 0.5], [0.5]])
    step()
    assert_same([theta, phi], [[0.5, 0.0], [0.0]])


@pytest.mark.parametrize(
    "compiled", [{"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}]
)
def test_fit_equals_two_separate_optimizers(compiled):
    def pair():
        return adam(0.01, clipnorm=0.1), keras.optimizers.RMSprop(0.02, weight_decay=0.1)

    main, surrogate = pair()
    model = make_model(RelaxOptimizer(main, surrogate_optimizer=surrogate), **compiled)
    fit(model, epochs=2)

    expected = make_model("sgd")
    theta, phi = expected.get_layer("theta"), expected.get_layer("phi")
    main, surrogate = pair()
    for x, y in list(tf.data.Dataset.from_tensor_slices(data()).batch(8)) * 2:
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean((expected(x) - y) ** 2)
        gradients = [tape.gradient(loss, layer.trainable_variables) for layer in (theta, phi)]
        main.apply(gradients[0], theta.trainable_variables)
        surrogate.apply(gradients[1], phi.trainable_variables)

    assert_close(model.weights, expected.weights)
    assert int(model.optimizer.iterations) == 6


def test_first_apply_builds_and_later_ones_may_omit_the_variables():
    theta, phi = two_variables()
    optimizer = two_sgd()
    iterations = optimizer.apply_gradients([(tf.ones(1), phi), (tf.ones(2), theta)])
    assert int(iterations) == 1
    optimizer.apply([tf.ones(1), tf.zeros(2)])
    assert_same([theta, phi], [[0.75, 0.75], [0.0]])


def test_an_optimizer_without_gradients_is_left_alone():
    theta, phi = two_variables()
    optimizer = RelaxOptimizer(adam(0.1), surrogate_optimizer=adam(0.1, use_ema=True))
    optimizer.build([theta, phi])
    main, surrogate = optimizer.optimizer, optimizer.surrogate_optimizer

    before = numpy(surrogate.variables)
    optimizer.apply([tf.ones(2)], [theta])
    assert_same(surrogate.variables, before)
    assert_same([phi], [[1.0]])
    assert (theta.numpy() < 1.0).all()

    before = numpy([theta, *main.variables])
    optimizer.apply([tf.ones(1)], [phi])
    assert_same([theta, *main.variables], before)
    assert phi.numpy() < 1.0
    assert (int(main.iterations), int(surrogate.iterations)) == (1, 1)


def test_building_again_changes_nothing():
    theta, phi = two_variables()
    optimizer = two_sgd()
    optimizer.build([theta, phi])
    state = optimizer.variables
    optimizer.build([theta])
    assert [id(variable) for variable in optimizer.variables] == [id(v) for v in state]
    optimizer.apply([tf.ones(2), tf.ones(1)])
    assert_same([theta, phi], [[0.75, 0.75], [0.5]])


def test_gradients_for_some_variables_of_one_optimizer():
    first, second = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = two_sgd()
    optimizer.build([first, second])
    optimizer.apply([tf.ones(1)], [second])
    assert_same([first, second], [[1.0], [0.75]])


def test_missing_gradients():
    theta, phi = two_variables()
    optimizer = two_sgd()
    optimizer.apply([], [theta, phi])
    assert not optimizer.built
    optimizer.build([theta, phi])
    with pytest.warns(UserWarning, match="Gradients do not exist.*phi"):
        optimizer.apply([tf.ones(2), None], [theta, phi])
    assert_same([theta, phi], [[0.75, 0.75], [1.0]])
    assert int(optimizer.surrogate_optimizer.iterations) == 0
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        optimizer.apply([None, None], [theta, phi])


def test_wrong_variables():
    theta, phi = two_variables()
    optimizer = two_sgd()
    with pytest.raises(ValueError, match="must be built"):
        optimizer.apply([tf.ones(2), tf.ones(1)])
    optimizer.build([theta, phi])
    with pytest.raises(ValueError, match="1 gradients for 2 variables"):
        optimizer.apply([tf.ones(2)])
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply([tf.ones(1)], [keras.Variable([1.0])])


@pytest.mark.parametrize(
    "name",
    [
        "adadelta",
        "adafactor",
        "adagrad",
        "adam",
        "adamw",
        "ftrl",
        "lion",
        "nadam",
        "rmsprop",
        "sgd",
    ],
)
def test_a_model_without_surrogates_trains_as_with_the_main_optimizer(name):
    theta, reference = keras.Variable([[1.0, 2.0]]), keras.Variable([[1.0, 2.0]])
    gradient = tf.constant([[0.5, -1.0]])
    optimizer, plain = RelaxOptimizer(name, surrogate_optimizer=name), keras.optimizers.get(name)
    for _ in range(2):
        optimizer.apply([gradient], [theta])
        plain.apply([gradient], [reference])
    assert_same([theta, *optimizer.optimizer.variables], [reference, *plain.variables])
    optimizer.finalize_variable_values([theta])
    assert_same([theta], [reference])


def test_mirrored_strategy_of_one_replica():
    with tf.distribute.MirroredStrategy(["cpu:0"]).scope():
        model = make_model(two_sgd(), jit_compile=False)
    fit(model)
    plain = make_model(two_sgd())
    fit(plain)
    assert_close(model.weights, plain.weights)


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(make_model(two_sgd(), jit_compile=False))
