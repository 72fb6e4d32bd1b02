"""RelaxOptimizer against the two plain Keras optimizers that it combines."""

import json
import warnings

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_relax._src.surrogates.variables import mark_surrogate_variables
from tf_relax._src.training.relax_optimizer import RelaxOptimizer

adam, adamw, sgd = keras.optimizers.Adam, keras.optimizers.AdamW, keras.optimizers.SGD


@keras.saving.register_keras_serializable(package="test_relax_optimizer")
class Surrogate(keras.layers.Dense):
    """A layer that stands for any surrogate: trainable, and flagged when it is built."""

    def build(self, input_shape):
        super().build(input_shape)
        mark_surrogate_variables(self.trainable_variables)


def make_model(optimizer, **compile_arguments):
    """The surrogate's variables come first, so that a list taken by position goes wrong."""
    compile_arguments = compile_arguments or {"run_eagerly": True}  # faster than tracing
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    phi = Surrogate(3, name="phi")(inputs)
    theta = keras.layers.Dense(3, name="theta")(inputs)
    model = keras.Model(inputs, keras.layers.Add()([phi, theta]))
    model.compile(optimizer, loss="mse", **compile_arguments)
    return model


def data(batches=3):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8 * batches, 4)).astype("float32")
    y = generator.normal(size=(8 * batches, 3)).astype("float32")
    return x, y


def fit(model, epochs=1, **arguments):
    return model.fit(*data(), batch_size=8, epochs=epochs, shuffle=False, verbose=0, **arguments)


def two_variables():
    theta, phi = keras.Variable([1.0, 1.0], name="theta"), keras.Variable([1.0], name="phi")
    mark_surrogate_variables([phi])
    return theta, phi


def two_sgd():
    return RelaxOptimizer(sgd(0.25), surrogate_optimizer=sgd(0.5))


def numpy(variables):
    return [np.asarray(getattr(v, "value", v)) for v in variables]


def assert_same(actual, expected):
    for a, b in zip(numpy(actual), numpy(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(actual, expected):
    for a, b in zip(numpy(actual), numpy(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def assert_same_state(model, other):
    assert_same(model.weights, other.weights)
    assert_same(model.optimizer.variables, other.optimizer.variables)


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


# ------------------------------------------------------------------------------ learning rate


def test_learning_rate_and_iterations_are_the_main_optimizers():
    optimizer = RelaxOptimizer(
        sgd(0.25, gradient_accumulation_steps=2), surrogate_optimizer=sgd(0.5)
    )
    theta, phi = two_variables()
    for _ in range(2):
        optimizer.apply([tf.ones(2), tf.ones(1)], [theta, phi])
    assert_same([theta, phi], [[0.75, 0.75], [0.0]])
    assert int(optimizer.iterations) == 1
    assert float(optimizer.learning_rate) == 0.25
    optimizer.learning_rate = 0.125
    assert float(optimizer.optimizer.learning_rate) == 0.125
    assert float(optimizer.surrogate_optimizer.learning_rate) == 0.5


def test_learning_rate_schedules_inside():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.5, 0.25])
    optimizer = RelaxOptimizer(sgd(schedule), surrogate_optimizer=sgd(0.5))
    theta, phi = two_variables()
    for _ in range(2):
        optimizer.apply([tf.ones(2), tf.ones(1)], [theta, phi])
    assert_same([theta, phi], [[0.25, 0.25], [0.0]])
    with pytest.raises(TypeError, match="not settable"):
        optimizer.learning_rate = 0.1


@pytest.mark.parametrize(
    "callback",
    [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        keras.callbacks.ReduceLROnPlateau(
            monitor="loss", factor=0.25, patience=1, min_delta=1e6, min_lr=0.0
        ),
    ],
    ids=["scheduler", "plateau"],
)
def test_learning_rate_callbacks_drive_the_main_optimizer_alone(callback):
    model = make_model(two_sgd())
    history = fit(model, epochs=2, callbacks=[callback]).history
    assert float(model.optimizer.optimizer.learning_rate) == 0.0625
    assert float(model.optimizer.surrogate_optimizer.learning_rate) == 0.5
    assert len(history["learning_rate"]) == 2


# ------------------------------------------------------------------------------ averages, decay


@pytest.mark.parametrize("averaged", ["main", "surrogate", "both"])
def test_moving_averages_end_in_their_own_variables(averaged):
    model = make_model(
        RelaxOptimizer(
            adam(0.1, use_ema=averaged != "surrogate", ema_momentum=0.9),
            surrogate_optimizer=adam(0.2, use_ema=averaged != "main", ema_momentum=0.5),
        )
    )
    raw = {}
    at_end = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: raw.update({v.path: v.numpy() for v in model.weights})
    )
    fit(model, callbacks=[at_end])
    for layer, inner, has_average in (
        ("theta", model.optimizer.optimizer, averaged != "surrogate"),
        ("phi", model.optimizer.surrogate_optimizer, averaged != "main"),
    ):
        variables = model.get_layer(layer).weights
        averages = [v for v in inner.variables if v.path.endswith("average")]
        assert len(averages) == (2 if has_average else 0)
        for i, variable in enumerate(variables):
            assert (variable.numpy() != raw[variable.path]).any() == has_average
            if has_average:
                assert_same([variable], [averages[i]])


def test_finalizing_depends_neither_on_order_nor_on_frozen_variables():
    first, frozen, phi, second = variables = [keras.Variable([1.0, 1.0]) for _ in range(4)]
    mark_surrogate_variables([phi])
    optimizer = RelaxOptimizer(sgd(1.0, use_ema=True), surrogate_optimizer=sgd(1.0, use_ema=True))
    gradients = [tf.constant([i, i + 0.5]) for i in range(1, 5)]
    optimizer.apply(gradients, variables)
    after_one_step = numpy(variables)
    optimizer.apply(gradients)
    after_two_steps = numpy(variables)
    optimizer.finalize_variable_values([second, phi, first])
    assert_same([frozen], [after_two_steps[1]])
    # The average starts at the first value, then goes 1 - 0.99 of the way to the next.
    averages = [a - 0.01 * g.numpy() for a, g in zip(after_one_step, gradients, strict=True)]
    assert_close([first, phi, second], [averages[0], averages[2], averages[3]])


def test_exclusion_from_weight_decay_reaches_both_optimizers():
    theta, bias, phi, phi_bias = (
        keras.Variable([1.0], name=name) for name in ("theta", "bias", "phi", "phi_bias")
    )
    mark_surrogate_variables([phi, phi_bias])
    variables = [theta, bias, phi, phi_bias]
    optimizer = RelaxOptimizer(
        sgd(0.5, weight_decay=0.5), surrogate_optimizer=sgd(0.5, weight_decay=1.0)
    )
    optimizer.exclude_from_weight_decay(var_list=[phi], var_names=["bias"])
    optimizer.apply([tf.zeros(1)] * 4, variables)
    assert_same(variables, [[0.75], [1.0], [1.0], [1.0]])
    with_decay = RelaxOptimizer("sgd", surrogate_optimizer=sgd(0.5, weight_decay=1.0))
    with_decay.exclude_from_weight_decay(var_names=["bias"])
    with_decay.apply([tf.zeros(1)] * 4, variables)
    assert_same([phi, phi_bias], [[0.5], [1.0]])


# ------------------------------------------------------------------------------ mixed precision


def test_loss_scaling_unscales_for_both_and_skips_both():
    theta, phi = two_variables()
    optimizer = keras.optimizers.LossScaleOptimizer(two_sgd(), initial_scale=4.0)
    optimizer.build([theta, phi])
    assert float(optimizer.scale_loss(tf.constant(1.0))) == 4.0
    step = tf.function(lambda *grads: optimizer.apply(list(grads), [theta, phi]))
    step(tf.fill([2], 4.0), tf.fill([1], 4.0))
    assert_same([theta, phi], [[0.75, 0.75], [0.5]])
    step(tf.fill([2], 4.0), tf.constant([np.nan]))
    assert_same([theta, phi], [[0.75, 0.75], [0.5]])
    assert int(optimizer.inner_optimizer.iterations) == 1
    assert float(optimizer.dynamic_scale) == 2.0
    optimizer.learning_rate = 0.125
    assert float(optimizer.inner_optimizer.optimizer.learning_rate) == 0.125


def test_mixed_float16_model_trains_and_reloads(tmp_path):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model(RelaxOptimizer(adam(0.01, use_ema=True)), jit_compile=False)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        fit(model)
        assert all(np.isfinite(v).all() for v in numpy(model.weights))
        inner = model.optimizer.inner_optimizer
        # The first scale is too large for this loss: Keras skips that step, for both.
        assert int(inner.iterations) == int(inner.surrogate_optimizer.iterations) == 2
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert_same_state(loaded, model)
    finally:
        keras.config.set_dtype_policy(previous)


# ------------------------------------------------------------------------------ saving


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)


PAIRS = {
    "names": lambda: ("adam", "rmsprop"),
    "clipnorm": lambda: (adam(0.1, clipnorm=0.01), sgd(0.1, momentum=0.9, clipvalue=0.01)),
    "average": lambda: (
        adam(0.1, use_ema=True, ema_overwrite_frequency=2),
        adam(0.2, use_ema=True, ema_momentum=0.5, name="other"),
    ),
    "accumulation": lambda: (
        adam(0.1, gradient_accumulation_steps=2),
        sgd(0.1, momentum=0.9, gradient_accumulation_steps=4),
    ),
    "decay": lambda: (adamw(0.1, weight_decay=0.5), sgd(0.1, weight_decay=0.25)),
    "schedule": lambda: (adam(schedule()), sgd(schedule(), momentum=0.9)),
}


def make_pair(kind):
    main, surrogate = PAIRS[kind]()
    return RelaxOptimizer(main, surrogate_optimizer=surrogate, name="pair")


@pytest.mark.parametrize("kind", PAIRS)
def test_config_round_trip(kind):
    optimizer = make_pair(kind)
    config = optimizer.get_config()
    text = json.dumps(config)
    clone = RelaxOptimizer.from_config(config)
    assert json.dumps(config) == text
    assert json.dumps(clone.get_config()) == text
    assert clone.name == "pair"
    assert type(clone.surrogate_optimizer) is type(optimizer.surrogate_optimizer)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, RelaxOptimizer)
    assert json.dumps(again.get_config()) == text


def test_config_with_custom_objects():
    class Custom(keras.optimizers.SGD):
        """A class that Keras has not registered."""

    config = RelaxOptimizer("adam", surrogate_optimizer=Custom(0.1)).get_config()
    clone = RelaxOptimizer.from_config(config, custom_objects={"Custom": Custom})
    assert type(clone.surrogate_optimizer) is Custom


@pytest.mark.parametrize("kind", PAIRS)
def test_saved_model_goes_on_exactly_as_the_original(kind, tmp_path):
    model = make_model(make_pair(kind))
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, RelaxOptimizer)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert_same_state(loaded, model)

    before = numpy(model.weights)
    fit(model)
    fit(loaded)
    assert_same_state(loaded, model)
    assert all((a != b).any() for a, b in zip(before, numpy(model.weights), strict=True))


def test_weights_file_holds_the_state_of_both_once(tmp_path):
    model = make_model(make_pair("average"))
    fit(model)
    model.save_weights(tmp_path / "w.weights.h5")
    saved = []
    with h5py.File(tmp_path / "w.weights.h5") as file:
        file["optimizer"].visititems(
            lambda name, item: saved.append(item[()]) if isinstance(item, h5py.Dataset) else None
        )
    assert len(saved) == len(model.optimizer.variables)

    other = make_model(make_pair("average"))
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "w.weights.h5")
    assert_same_state(other, model)


def test_set_weights():
    theta, phi = two_variables()
    source = RelaxOptimizer("adam", surrogate_optimizer=sgd(0.5, momentum=0.9))
    source.apply([tf.ones(2), tf.ones(1)], [theta, phi])
    target = RelaxOptimizer("adam", surrogate_optimizer=sgd(0.25, momentum=0.9))
    target.build([theta, phi])
    target.set_weights(source.variables)
    assert_same(target.variables, source.variables)


def test_model_checkpoint(tmp_path):
    model = make_model(make_pair("clipnorm"))
    path = str(tmp_path / "{epoch}.keras")
    fit(model, epochs=2, callbacks=[keras.callbacks.ModelCheckpoint(path)])
    resumed = keras.saving.load_model(tmp_path / "1.keras")
    fit(resumed)
    assert_same_state(resumed, model)


def test_backup_and_restore(tmp_path):
    expected = make_model(make_pair("clipnorm"))
    fit(expected, epochs=3)

    def stop(epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    backup = str(tmp_path / "backup")
    interrupted = make_model(make_pair("clipnorm"))
    with pytest.raises(KeyboardInterrupt):
        fit(
            interrupted,
            epochs=3,
            callbacks=[
                keras.callbacks.BackupAndRestore(backup),
                keras.callbacks.LambdaCallback(on_epoch_begin=stop),
            ],
        )
    resumed = make_model(make_pair("clipnorm"))
    fit(resumed, epochs=3, callbacks=[keras.callbacks.BackupAndRestore(backup)])
    assert_same_state(resumed, expected)


def test_tensorflow_checkpoint(tmp_path):
    model = make_model(make_pair("clipnorm"))
    fit(model)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(tmp_path / "c"))
    other = make_model(make_pair("clipnorm"))
    other.optimizer.build(other.trainable_variables)
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path).assert_consumed()
    assert_same_state(other, model)


def test_state_tree():
    model = make_model(RelaxOptimizer("adam", surrogate_optimizer="rmsprop"))
    model.optimizer.build(model.trainable_variables)
    saved = numpy(model.optimizer.variables)
    tree = model.get_state_tree(value_format="numpy_array")
    fit(model)
    model.set_state_tree(tree)
    assert_same(model.optimizer.variables, saved)


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(make_model(two_sgd(), jit_compile=False))
