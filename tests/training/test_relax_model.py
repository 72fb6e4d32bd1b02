"""RelaxModel as a Keras model: every style of building, every part of the training loop."""

import csv
import itertools
import json
import pathlib
import subprocess
import sys
import traceback
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_relax import RelaxModel, RelaxOptimizer, estimators
from tf_relax.estimators import Relax
from tf_relax.layers import RelaxBernoulli
from tf_relax.losses import BernoulliNLL
from tf_relax.surrogates import Network, is_surrogate_variable

X = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
Y = (X > 0).astype("float32")


def bernoulli(**arguments):
    return RelaxBernoulli(**{"prior": "learned", **arguments})


def functional(model_class=RelaxModel, **arguments):
    inputs = keras.Input((3,))
    code = bernoulli(**arguments)(keras.layers.Dense(2, name="encoder")(inputs))
    return model_class(inputs, keras.layers.Dense(3, name="decoder")(code))


def sequential(model_class=RelaxModel, **arguments):
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(2, name="encoder"),
        bernoulli(**arguments),
        keras.layers.Dense(3, name="decoder"),
    ]
    return model_class(layers)


@keras.saving.register_keras_serializable(package="test_relax_model")
class Subclassed(RelaxModel):
    """Built by its `call`, with a constructor argument of its own."""

    def __init__(self, units=2, outputs=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.outputs_ = outputs
        self.encoder = keras.layers.Dense(units)
        self.code = bernoulli()
        self.decoder = keras.layers.Dense(outputs)

    def call(self, x, training=None):
        return self.decoder(self.code(self.encoder(x), training=training))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "outputs": self.outputs_}


@keras.saving.register_keras_serializable(package="test_relax_model")
class WithoutTraining(Subclassed):
    """Its `call` knows nothing of training; Keras passes it on to the layers."""

    def call(self, x):
        return self.decoder(self.code(self.encoder(x)))


@keras.saving.register_keras_serializable(package="test_relax_model")
class BuildsItself(RelaxModel):
    """Hands inputs and outputs of its own making to the constructor of the base."""

    def __init__(self, units=2, outputs=3, **kwargs):
        inputs = keras.Input((3,))
        code = bernoulli()(keras.layers.Dense(units)(inputs))
        super().__init__(inputs, keras.layers.Dense(outputs)(code), **kwargs)
        self.units = units
        self.outputs_ = outputs

    def get_config(self):
        return {"name": self.name, "units": self.units, "outputs": self.outputs_}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


@keras.saving.register_keras_serializable(package="test_relax_model")
class Own(RelaxModel):
    """A subclass that may be built in any style, with a method to show for it."""

    def own(self):
        return "own"


STYLES = {
    "functional": functional,
    "sequential": sequential,
    "subclassed": Subclassed,
    "subclassed_positional": lambda: Subclassed(2, 3),
    "without_training": WithoutTraining,
    "builds_itself": BuildsItself,
    "builds_itself_positional": lambda: BuildsItself(2, 3),
    "functional_subclass": lambda: functional(Own),
    "sequential_subclass": lambda: sequential(Own),
}

styles = pytest.mark.parametrize("style", STYLES)
run_modes = pytest.mark.parametrize("run_eagerly", [True, False], ids=["eager", "graph"])


def relax(**arguments):
    return Relax(**{"surrogate": "objective", **arguments})


def with_surrogate(estimator, surrogate):
    """The estimator with another surrogate, where it takes one."""
    config = estimator.get_config()
    return type(estimator).from_config(
        {**config, "surrogate": surrogate} if "surrogate" in config else config
    )


def compile_model(model, optimizer="adam", loss=None, estimator=None, **arguments):
    arguments = arguments if arguments else {"run_eagerly": True}
    model.compile(optimizer, loss or BernoulliNLL(), estimator=estimator or relax(), **arguments)
    return model


def fit(model, **arguments):
    arguments = {"batch_size": 4, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(X, Y, **arguments).history


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def changed(before, after):
    return [bool((a != b).any()) for a, b in zip(before, after, strict=True)]


def numpy(variables):
    return [variable.numpy() for variable in variables]


def held(model):
    """The weights of a compiled model, and what its estimator has learned."""
    return [*model.weights, *model.estimator_state.variables]


def assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


# ------------------------------------------------------------------------------ styles


@styles
def test_every_style_trains_every_variable(style):
    model = compile_model(STYLES[style]())
    model(X)
    before, bases = numpy(model.trained_variables), RelaxModel.__bases__
    history = fit(model, epochs=2)
    assert np.isfinite(history["loss"]).all()
    assert all(changed(before, numpy(model.trained_variables)))
    assert isinstance(model, RelaxModel)
    assert RelaxModel.__bases__ == bases == (keras.Model,)
    assert len(model.stochastic_layers) == 1
    assert model.predict(X, verbose=0).shape == (10, 3)


@styles
def test_an_unbuilt_model_builds_itself_in_the_first_step(style):
    model = compile_model(STYLES[style]())
    fit(model)
    assert model.built
    assert len(model.trained_variables) == 4 + 1 + 3  # dense layers, prior, surrogate
    assert int(model.optimizer.iterations.numpy()) == 3


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_styles_do_not_touch_one_another(order):
    class Fresh(RelaxModel):
        """No style has been built from this class before."""

    class FreshSubclassed(Fresh):
        def __init__(self):
            super().__init__()
            self.layer = bernoulli()

        def call(self, x):
            return self.layer(x)

    class FreshBuildsItself(Fresh):
        def __init__(self):
            inputs = keras.Input((3,))
            super().__init__(inputs, bernoulli()(inputs))

    builders = [
        lambda: Fresh(inputs := keras.Input((3,)), bernoulli()(inputs)),
        lambda: Fresh([bernoulli()]),
        FreshSubclassed,
        FreshBuildsItself,
    ]
    models = [builders[k]() for k in order] + [builders[k]() for k in order]
    for model in models:
        assert isinstance(model, Fresh)
        assert model(X).shape == (10, 3)
    assert Fresh.__bases__ == (RelaxModel,)
    assert FreshSubclassed.__bases__ == FreshBuildsItself.__bases__ == (Fresh,)
    assert RelaxModel.__bases__ == (keras.Model,)
    functional_model, sequential_model = (models[order.index(k)] for k in (0, 1))
    assert isinstance(sequential_model, keras.Sequential)
    assert not isinstance(functional_model, keras.Sequential)
    assert functional_model.inputs[0].shape == (None, 3)


def test_constructor_arguments_that_only_look_functional():
    """Two positional arguments, or a list, belong to a constructor that asks for them."""

    class Layers(RelaxModel):
        def __init__(self, units, layer):
            super().__init__()
            self.encoder = [keras.layers.Dense(size) for size in units]
            self.code = layer

        def call(self, x):
            for dense in self.encoder:
                x = dense(x)
            return self.code(x)

    class OnlyList(Layers):
        def __init__(self, units):
            super().__init__(units, bernoulli())

    for model in (Layers([4, 3], bernoulli()), Layers(units=[4, 3], layer=bernoulli())):
        assert fit(compile_model(model))["loss"]
    model = OnlyList([4, 3])
    assert not isinstance(model, keras.Sequential)
    assert fit(compile_model(model))["loss"]


def test_methods_of_a_subclass_survive_every_style():
    assert functional(Own).own() == sequential(Own).own() == "own"
    assert type(functional(Own)).__name__ == type(sequential(Own)).__name__ == "Own"
    assert functional().__class__.__name__ == "RelaxModel"


def test_functional_model_with_keywords_and_names():
    inputs = keras.Input((3,), name="image")
    model = RelaxModel(inputs=inputs, outputs={"code": bernoulli()(inputs)}, name="named")
    assert model.name == "named"
    assert list(model(X)) == ["code"]


def test_layers_are_added_to_a_sequential_model():
    model = RelaxModel([], name="growing")
    model.add(keras.layers.Dense(2))
    model.add(bernoulli())
    model.add(keras.layers.Dense(3))
    compile_model(model)
    assert np.isfinite(fit(model)["loss"]).all()


def test_functional_models_are_cloned_with_their_class():
    model = functional(Own)
    clone = keras.models.clone_model(model)
    assert isinstance(clone, Own)
    assert fit(compile_model(clone))["loss"]


def test_a_model_inside_a_model():
    inner = functional()
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, keras.layers.Dense(3)(bernoulli()(inner(inputs))))
    assert len(model.stochastic_layers) == 2
    compile_model(model)
    model(X)
    before = numpy(model.trained_variables)
    fit(model)
    assert all(changed(before, numpy(model.trained_variables)))


@run_modes
def test_structured_inputs_and_outputs(run_eagerly):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    code = bernoulli()(keras.layers.Dense(2)(keras.layers.Concatenate()([a, b])))
    outputs = {"p": keras.layers.Dense(3)(code), "q": keras.layers.Dense(1)(code)}
    model = RelaxModel({"a": a, "b": b}, outputs)
    model.compile(
        "adam",
        {"p": BernoulliNLL(), "q": "mse"},
        loss_weights={"p": 1.0, "q": 2.0},
        metrics={"q": ["mae"]},
        estimator=relax(),
        run_eagerly=run_eagerly,
    )
    x, y = {"a": X, "b": X[:, :2]}, {"p": Y, "q": Y[:, :1]}
    history = model.fit(x, y, batch_size=4, verbose=0, validation_data=(x, y)).history
    expected = {"loss", "p_loss", "q_loss", "q_mae"}
    assert set(history) == expected | {f"val_{name}" for name in expected}
    assert np.isfinite(list(history.values())).all()


def test_losses_are_matched_with_outputs_by_name():
    """The order of the outputs is not that of the alphabet, nor has each output a loss."""
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(2)(inputs))
    units = {"z": 3, "a": 2, "m": 1}
    model = RelaxModel(inputs, [keras.layers.Dense(n, name=k)(code) for k, n in units.items()])
    labels = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = {"z": BernoulliNLL(), "a": labels, "m": keras.losses.MeanSquaredError()}
    y = [Y, Y[:, 0].astype("int32"), Y[:, :1]]
    model.compile("adam", losses, estimator=relax(), run_eagerly=True)
    history = model.fit(X, y, batch_size=4, verbose=0).history
    assert set(history) == {"loss", "z_loss", "a_loss", "m_loss"}
    assert np.isfinite(list(history.values())).all()


# ------------------------------------------------------------------------------ ways to run


@pytest.mark.parametrize(
    "arguments",
    [{"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}],
    ids=["eager", "graph", "xla"],
)
def test_gradients_are_those_of_the_noise_in_every_way_to_run(arguments, rng):
    """The same noise makes eager, graph and XLA comparable, whose random numbers differ."""
    model = functional(name="code")
    compile_model(model, keras.optimizers.SGD(0.1), **arguments)
    noise = [rng.normal(size=(4, 2)).astype("float32")]
    assign(held(model), [rng.normal(size=v.shape) for v in held(model)])
    expected = model.differentiate(tf.constant(X[:4]), tf.constant(Y[:4]), noise=noise)

    def step(x, y):
        return model.differentiate(x, y, noise=noise).gradients

    if "run_eagerly" not in arguments:
        step = tf.function(step, jit_compile=arguments["jit_compile"])
    for actual, gradient in zip(
        step(tf.constant(X[:4]), tf.constant(Y[:4])), expected.gradients, strict=True
    ):
        np.testing.assert_allclose(actual, gradient, rtol=1e-4, atol=1e-6)


def test_compiled_training_loop():
    """One XLA program per batch size, the last and smaller one included."""
    model = compile_model(functional(), metrics=["mae"], jit_compile=True)
    before = numpy(model.trained_variables)
    history = fit(model, epochs=2)
    assert set(history) == {"loss", "mae"}
    assert np.isfinite(list(history.values())).all()
    assert all(changed(before, numpy(model.trained_variables)))


OBJECTIVE = {"log_temperature", "scale"}


@pytest.mark.parametrize(
    ("estimator", "learned"),
    [
        ("relax", OBJECTIVE | {"intercept"}),
        ("rebar", OBJECTIVE),
        ("dlax", OBJECTIVE | {"intercept"}),
        ("nvil", {"intercept"}),
        ("double_cv", {"alpha"}),
        ("rodeo", {"inner_scale", "outer_scale", "kernel", "bias"}),
        ("reinforce", set()),
        ("concrete", set()),
        ("straight_through", set()),
        ("leave_one_out", set()),
        ("disarm", set()),
    ],
)
def test_every_estimator_trains_its_own_variables_in_graph_mode(estimator, learned):
    estimator = with_surrogate(estimators.get(estimator), "objective")
    model = compile_model(functional(), estimator=estimator, jit_compile=False)
    state = model.estimator_state
    both = (model.trainable_variables, state.trainable_variables)
    before = [numpy(variables) for variables in both]
    with warnings.catch_warnings():
        # Keras might mention variables that get no gradient.
        warnings.simplefilter("error")
        fit(model)
    trained = []
    for variables, values in zip(both, before, strict=True):
        moved = zip(variables, changed(values, numpy(variables)), strict=True)
        trained.append({variable.name for variable, m in moved if m})
    assert trained == [{"kernel", "bias", "prior_logits"}, learned]
    assert {v.name for v in model.trained_variables} == trained[0] | trained[1]
    assert not any(is_surrogate_variable(v) for v in model.weights)
    assert all(is_surrogate_variable(v) for v in state.variables)


# ------------------------------------------------------------------------------ the training loop


def saturated():
    """Logits far from zero: every pass, random or not, takes the same samples."""
    inputs = keras.Input((3,))
    encoder = keras.layers.Dense(
        2, kernel_initializer=keras.initializers.Constant([[80, 0], [0, 80], [0, 0]]), name="e"
    )
    code = bernoulli(prior="uniform")(encoder(inputs))
    return RelaxModel(inputs, keras.layers.Dense(3, name="d")(code))


SIGNS = np.where(X > 0, 1.0, -1.0).astype("float32")


@pytest.mark.parametrize("arguments", [{"run_eagerly": True}, {"jit_compile": False}])
@pytest.mark.parametrize("weighted", [False, True])
def test_history_shows_what_evaluate_shows(arguments, weighted):
    """Losses and metrics over 10 examples in batches of 4, the last of them smaller."""
    model = saturated()
    model.compile(
        keras.optimizers.SGD(0.0),
        BernoulliNLL(),
        metrics=["mae", keras.metrics.MeanSquaredError(name="squares")],
        weighted_metrics=["mse"],
        estimator=relax(),
        **arguments,
    )
    weight = np.arange(10.0) if weighted else None
    data = {"sample_weight": weight, "batch_size": 4, "verbose": 0}
    history = model.fit(SIGNS, Y, **data).history
    evaluated = model.evaluate(SIGNS, Y, return_dict=True, **data)
    assert set(history) == set(evaluated) == {"loss", "mae", "squares", "mse"}
    prediction = model.predict(SIGNS, verbose=0)
    np.testing.assert_allclose(history["mae"], [abs(prediction - Y).mean()], rtol=1e-5)
    for name, value in evaluated.items():
        np.testing.assert_allclose(history[name], [value], rtol=1e-5)
    nll = (np.logaddexp(0, prediction) - Y * prediction).sum(axis=1)
    w = np.ones(10) if weight is None else weight
    np.testing.assert_allclose(evaluated["loss"], (w * nll).mean() + 2 * np.log(2), rtol=1e-5)


def test_validation_data_and_validation_split():
    model = compile_model(functional(), metrics=["mae"])
    history = fit(model, epochs=2, validation_data=(X, Y))
    assert set(history) == {"loss", "mae", "val_loss", "val_mae"}
    history = fit(model, epochs=2, validation_split=0.2, validation_freq=2)
    assert len(history["val_loss"]) == 1


def test_validation_trains_nothing():
    model = compile_model(functional())
    fit(model)
    before = numpy(held(model))
    moments = numpy(model.optimizer.variables)
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    model.test_on_batch(X, Y)
    model.predict_on_batch(X)
    assert_same(numpy(held(model)), before)
    assert_same(numpy(model.optimizer.variables), moments)


@run_modes
def test_single_batches(run_eagerly):
    model = compile_model(functional(), metrics=["mae"], run_eagerly=run_eagerly)
    logs = model.train_on_batch(X[:4], Y[:4], return_dict=True)
    assert set(logs) == {"loss", "mae"}
    assert int(model.optimizer.iterations.numpy()) == 1
    weighted = model.train_on_batch(X[:4], Y[:4], sample_weight=np.ones(4), return_dict=True)
    assert np.isfinite(list(weighted.values())).all()
    by_class = model.train_on_batch(X[:4], Y[:4, :1] * np.ones(3), return_dict=True)
    assert np.isfinite(list(by_class.values())).all()
    assert set(model.test_on_batch(X[:4], Y[:4], return_dict=True)) == {"loss", "mae"}
    assert model.predict_on_batch(X[:4]).shape == (4, 3)


@pytest.mark.parametrize("steps_per_execution", [2, 3])
def test_several_steps_per_execution_equal_single_ones(steps_per_execution):
    """Three batches, the last smaller, do not fill two executions of two."""
    weights = []
    for steps in (1, steps_per_execution):
        keras.utils.set_random_seed(0)
        model = functional(seed=0)
        # Not Adam, whose first step is the sign of a gradient, and as large for rounding errors.
        optimizer = keras.optimizers.SGD(0.1)
        compile_model(model, optimizer, steps_per_execution=steps, jit_compile=False)
        history = fit(model, epochs=2)
        assert np.isfinite(history["loss"]).all()
        assert int(model.optimizer.iterations.numpy()) == 6
        weights.append(numpy(held(model)))
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_no_weight_is_written_before_the_last_replay_has_read_it():
    """The same two steps, 300 times: an early write showed in one run out of thirty.

    TensorFlow's graph optimizer drops the order of reads and writes of a variable that is read
    twice in the body of a loop, so the order has to follow from the gradients.
    """
    model = functional(seed=0)
    optimizer = keras.optimizers.SGD(0.1)
    compile_model(model, optimizer, steps_per_execution=2, jit_compile=False)
    (code,) = model.stochastic_layers
    variables = [*held(model), code.seed_generator.state]
    values = numpy(variables)
    data = tf.data.Dataset.from_tensor_slices((X[:8], Y[:8])).batch(4)
    outcomes = set()
    for _ in range(300):
        assign(variables, values)
        model.fit(data, shuffle=False, verbose=0)
        outcomes.add(b"".join(w.tobytes() for w in numpy(held(model))))
    assert len(outcomes) == 1


def test_datasets_and_generators():
    model = compile_model(functional())
    dataset = tf.data.Dataset.from_tensor_slices((X, Y, np.ones(10, "float32"))).batch(4)
    assert len(model.fit(dataset, epochs=2, shuffle=False, verbose=0).history["loss"]) == 2

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X[5 * index :][:5], Y[5 * index :][:5]

    assert model.fit(Batches(), verbose=0).history["loss"]
    assert int(model.optimizer.iterations.numpy()) == 3 * 2 + 2


def test_equal_seeds_train_alike(seed):
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(seed)
        model = compile_model(functional())
        fit(model, epochs=2, shuffle=True)
        results.append(numpy(held(model)))
    assert_same(*results)


def test_training_lowers_the_loss():
    """Eighty steps: from about 2.1 nats, which are three fair bits, to far less."""
    model = functional(prior=None)
    compile_model(model, keras.optimizers.Adam(0.1), jit_compile=False)
    x, y = np.tile(X, (20, 1)), np.tile(Y, (20, 1))
    losses = model.fit(x, y, batch_size=10, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


# ------------------------------------------------------------------------------ optimizers


def test_a_plain_optimizer_gets_a_copy_for_the_surrogates():
    plain = keras.optimizers.Adam(0.02, beta_1=0.5)
    model = compile_model(functional(), plain)
    assert isinstance(model.optimizer, RelaxOptimizer)
    assert model.optimizer.optimizer is plain
    copy = model.optimizer.surrogate_optimizer
    assert copy is not plain
    assert type(copy) is keras.optimizers.Adam
    assert float(copy.learning_rate.numpy()) == np.float32(0.02)
    assert copy.beta_1 == 0.5
    fit(model)
    assert int(copy.iterations.numpy()) == int(plain.iterations.numpy()) == 3


def test_a_schedule_is_copied_too():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    model = compile_model(functional(), keras.optimizers.SGD(schedule))
    fit(model)
    for inner in (model.optimizer.optimizer, model.optimizer.surrogate_optimizer):
        np.testing.assert_allclose(inner.learning_rate, 0.1 * 0.5**3, rtol=1e-6)


def test_a_pair_of_optimizers_is_used_as_it_is():
    pair = RelaxOptimizer(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1))
    model = compile_model(functional(), pair)
    assert model.optimizer is pair
    before = numpy(model.trained_variables)
    fit(model)
    paths = [v.path for v in model.trained_variables]
    moved = changed(before, numpy(model.trained_variables))
    names = ("/log_temperature", "/scale", "/intercept")
    expected = {path for path in paths if path.endswith(names)}
    assert {path for path, m in zip(paths, moved, strict=True) if m} == expected
    assert len(expected) == 3


def test_state_tree_with_a_plain_optimizer():
    model = compile_model(functional())
    fit(model)
    tree = model.get_state_tree()
    model.set_state_tree(tree)
    assert set(tree) >= {"trainable_variables", "optimizer_variables"}


# ------------------------------------------------------------------------------ frozen layers


def test_frozen_layers_stay():
    model = functional()
    encoder = model.get_layer("encoder")
    encoder.trainable = False
    compile_model(model)
    frozen, before = numpy(encoder.weights), numpy(model.trained_variables)
    fit(model)
    assert_same(numpy(encoder.weights), frozen)
    assert all(changed(before, numpy(model.trained_variables)))


def test_everything_but_the_encoder_frozen():
    model = functional()
    decoder, code = model.get_layer("decoder"), model.stochastic_layers[0]
    decoder.trainable = code.trainable = False
    compile_model(model)
    frozen_variables = [*decoder.weights, *code.weights, *model.estimator_state.variables]
    assert len(frozen_variables) == 2 + 2 + 3  # dense layer, prior and its weight, surrogate
    frozen = numpy(frozen_variables)
    before = numpy(model.trained_variables)
    assert len(before) == 2
    fit(model)
    assert_same(numpy(frozen_variables), frozen)
    assert all(changed(before, numpy(model.trained_variables)))


@pytest.mark.parametrize("when", ["before", "after"])
def test_frozen_surrogate_beside_a_learned_prior(when):
    surrogate = Network(units=(2,))
    surrogate.trainable = when == "after"
    model = compile_model(functional(name="code"), estimator=relax(surrogate=surrogate))
    assert model.estimator_state["code"].surrogate is surrogate
    surrogate.trainable = False
    frozen, before = numpy(surrogate.weights), numpy(model.trainable_variables)
    assert frozen
    assert model.estimator_state.trainable_variables == []
    fit(model)
    assert_same(numpy(surrogate.weights), frozen)
    assert all(changed(before, numpy(model.trainable_variables)))


def test_a_layer_is_thawed_by_compiling_again():
    model = functional()
    encoder = model.get_layer("encoder")
    encoder.trainable = False
    fit(compile_model(model))
    encoder.trainable = True
    before = numpy(encoder.weights)
    fit(compile_model(model))
    assert all(changed(before, numpy(encoder.weights)))


# ------------------------------------------------------------------------------ precision


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
@run_modes
def test_policies_train(policy, run_eagerly):
    keras.config.set_dtype_policy(policy)
    if policy == "float64":
        keras.config.set_floatx("float64")
    arguments = {"estimator": Relax(), "run_eagerly": run_eagerly, "metrics": ["mae"]}
    model = compile_model(functional(), keras.optimizers.Adam(0.01), **arguments)
    if policy == "mixed_float16":
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert isinstance(model.optimizer.inner_optimizer, RelaxOptimizer)
    before = numpy(model.trained_variables)
    history = fit(model, epochs=3)
    assert np.isfinite(list(history.values())).all()
    assert all(np.isfinite(w).all() for w in numpy(held(model)))
    assert all(changed(before, numpy(model.trained_variables)))
    compute = keras.config.dtype_policy().compute_dtype
    assert model(X).dtype == compute
    assert {v.dtype for v in model.trained_variables} == {
        "float64" if policy == "float64" else "float32"
    }


@pytest.mark.parametrize(
    ("policy", "rtol"), [("mixed_float16", 0.03), ("mixed_bfloat16", 0.2), ("float64", 1e-4)]
)
def test_gradients_under_policies_are_those_of_float32(policy, rtol, rng):
    """With the same noise, up to the rounding of the policy; the loss scale reaches them all."""
    noise = [rng.normal(size=(10, 2))]
    results, weights = [], None
    for name in ("float32", policy):
        keras.config.set_dtype_policy(name)
        if name == "float64":
            keras.config.set_floatx("float64")
        model = compile_model(functional(), estimator=relax(temperature=1.0))
        weights = weights or [rng.normal(size=v.shape) for v in held(model)]
        assign(held(model), weights)
        step = model.differentiate(tf.constant(X), tf.constant(Y), noise=noise)
        scale = float(model.optimizer.scale_loss(tf.constant(1.0)))
        assert scale == (2.0**15 if name == "mixed_float16" else 1.0)
        results.append([np.asarray(tf.cast(g, "float64")) / scale for g in step.gradients])
    for expected, actual in zip(*results, strict=True):
        error = abs(actual - expected).max()
        assert error <= rtol * abs(expected).max()


def test_float64_policy_of_a_model_in_a_float32_world():
    """The dtype of the layers differs from the default float in which losses are computed."""
    inputs = keras.Input((3,), dtype="float64")
    encoder = keras.layers.Dense(2, dtype="float64")
    code = bernoulli(dtype="float64", prior=None)(encoder(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(3, dtype="float64")(code))
    compile_model(model, estimator=Relax())
    before = numpy(model.trained_variables)
    fit(model)
    assert all(changed(before, numpy(model.trained_variables)))


# ------------------------------------------------------------------------------ callbacks


def test_model_checkpoint(tmp_path):
    model = compile_model(functional())
    callback = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    weights_only = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "best.weights.h5"),
        save_weights_only=True,
        save_best_only=True,
        monitor="val_loss",
    )
    fit(model, epochs=2, validation_data=(X, Y), callbacks=[callback, weights_only])
    resumed = keras.saving.load_model(tmp_path / "1.keras")
    fit(resumed, validation_data=(X, Y))  # validation draws samples as well
    assert_same(numpy(held(resumed)), numpy(held(model)))
    other = compile_model(functional())
    other.optimizer.build(other.trained_variables)  # as in Keras: an unbuilt one is skipped
    other.load_weights(tmp_path / "best.weights.h5")


def test_early_stopping():
    model = compile_model(functional(), keras.optimizers.SGD(0.0))
    callback = keras.callbacks.EarlyStopping(
        monitor="loss", patience=0, min_delta=1e6, restore_best_weights=True
    )
    history = fit(model, epochs=5, callbacks=[callback])
    assert len(history["loss"]) == 2


def test_learning_rate_callbacks():
    model = compile_model(functional(), keras.optimizers.SGD(1.0))
    rates = []
    history = fit(
        model,
        epochs=3,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / 2**epoch),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: rates.append(
                    float(model.optimizer.optimizer.learning_rate.numpy())
                )
            ),
        ],
    )
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.025], rtol=1e-6)
    np.testing.assert_allclose(history["learning_rate"], rates, rtol=1e-6)
    assert float(model.optimizer.surrogate_optimizer.learning_rate.numpy()) == 1.0


def test_csv_logger(tmp_path):
    model = compile_model(functional(), metrics=["mae"], run_eagerly=True)
    history = fit(
        model,
        epochs=2,
        validation_data=(X, Y),
        callbacks=[keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))],
    )
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"epoch", "loss", "mae", "val_loss", "val_mae"}
    np.testing.assert_allclose([float(row["loss"]) for row in rows], history["loss"])


def test_backup_and_restore(tmp_path):
    """The run that was interrupted ends exactly as the one that was not."""

    def make():
        return compile_model(functional(seed=0))

    initial = numpy(held(make()))

    def run(*callbacks, epochs=3):
        model = make()
        assign(held(model), initial)
        fit(model, epochs=epochs, callbacks=list(callbacks))
        return model

    def stop(epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt

    expected = run()
    backup = str(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        run(
            keras.callbacks.BackupAndRestore(backup),
            keras.callbacks.LambdaCallback(on_epoch_begin=stop),
        )
    resumed = run(keras.callbacks.BackupAndRestore(backup))
    assert_same(numpy(held(resumed)), numpy(held(expected)))
    assert_same(numpy(resumed.optimizer.variables), numpy(expected.optimizer.variables))


def test_callback_sees_the_state_of_each_batch():
    losses = []
    model = compile_model(functional(), keras.optimizers.SGD(0.0))
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: losses.append(logs["loss"])
    )
    history = fit(model, callbacks=[callback])
    assert len(losses) == 3
    assert losses[-1] == pytest.approx(history["loss"][0])


# ------------------------------------------------------------------------------ saving


def pair():
    return RelaxOptimizer(keras.optimizers.Adam(0.05), keras.optimizers.RMSprop(0.01))


def configure(model):
    model.compile(
        pair(),
        BernoulliNLL(),
        metrics=["mae"],
        estimator=relax(coupled=False),
        batch_coupled=False,
        run_eagerly=True,
    )
    return model


def describe(model):
    """What has to survive saving, except for arrays."""
    return {
        "class": type(model).__name__,
        "registered": keras.saving.get_registered_name(type(model)),
        "estimator": repr(model.estimator),
        "batch_coupled": model.batch_coupled,
        "optimizer": model.optimizer.get_config(),
        "loss": model.loss.name,
        "run_eagerly": model.run_eagerly,
        "relax_model": isinstance(model, RelaxModel),
        "sequential": isinstance(model, keras.Sequential),
        "layers": [type(layer).__name__ for layer in model.layers],
        "variables": [v.name for v in [*model.variables, *model.estimator_state.variables]],
    }


def arrays(model):
    seeds = [layer.seed_generator.state for layer in model.stochastic_layers]
    values = numpy([*held(model), *model.optimizer.variables, *seeds])
    return {str(k): value for k, value in enumerate(values)}


def as_json(value):
    return json.loads(json.dumps(value, default=str))


def resume(folder):
    """Runs in another process: loads every style, describes it and trains it on."""
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix == ".keras":
                model = keras.saving.load_model(path)
                np.savez(path.with_suffix(".loaded.npz"), **arrays(model))
                description = json.dumps(describe(model), default=str)
                path.with_suffix(".loaded.json").write_text(description)
                fit(model, epochs=2)
                np.savez(path.with_suffix(".resumed.npz"), **arrays(model))
            else:
                loaded = tf.saved_model.load(str(path))
                draws = [np.asarray(loaded.serve(tf.constant(SERVED))) for _ in range(2)]
                np.savez(path.with_suffix(".served.npz"), first=draws[0], second=draws[1])
        except Exception:  # one style must not take the others with it
            print(path.name, traceback.format_exc(), file=sys.stderr)


# Enough examples for two draws to differ for certain: fair samples agree once in 2^128 times.
SERVED = np.zeros((64, 3), "float32")
SAVED = ("functional", "sequential", "subclassed", "builds_itself")
EXPORTED = ("functional", "subclassed")


@pytest.fixture(scope="module")
def other_process(tmp_path_factory):
    """Models of every style, saved here after some training, and what another process made of it.

    All of them share one process, which takes several seconds to start.
    """
    folder = tmp_path_factory.mktemp("models")
    expected = {}
    failures = {}
    for style in SAVED:
        keras.utils.set_random_seed(1)
        try:
            model = configure(STYLES[style]())
            fit(model)
            model.save(folder / f"{style}.keras")
            if style in EXPORTED:
                model.export(folder / f"{style}.saved_model", verbose=False)
            saved = describe(model), arrays(model)
            fit(model, epochs=2)
            expected[style] = *saved, arrays(model)
        except Exception as error:  # one style must not take the others with it
            failures[style] = error
            (folder / f"{style}.keras").unlink(missing_ok=True)
    child = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    return folder, expected, failures, child


def outcome(other_process, style):
    folder, expected, failures, child = other_process
    if style in failures:
        raise failures[style]
    return folder, expected[style], child


@pytest.mark.parametrize("style", SAVED)
def test_a_saved_model_goes_on_in_a_new_process_as_here(other_process, style):
    folder, (description, saved, resumed), child = outcome(other_process, style)
    assert (folder / f"{style}.resumed.npz").exists(), child.stderr[-3000:]
    loaded = json.loads((folder / f"{style}.loaded.json").read_text())
    assert loaded == as_json(description)
    for kind, arrays_here in (("loaded", saved), ("resumed", resumed)):
        with np.load(folder / f"{style}.{kind}.npz") as there:
            assert set(there) == set(arrays_here)
            for key, value in arrays_here.items():
                np.testing.assert_allclose(there[key], value, rtol=1e-6, err_msg=f"{kind} {key}")
    assert any((saved[key] != resumed[key]).any() for key in saved)


@pytest.mark.parametrize("style", EXPORTED)
def test_an_exported_model_serves_fresh_samples_in_a_new_process(other_process, style):
    folder, _, child = outcome(other_process, style)
    assert (folder / f"{style}.served.npz").exists(), child.stderr[-3000:]
    with np.load(folder / f"{style}.served.npz") as served:
        first, second = served["first"], served["second"]
    assert first.shape == second.shape == (64, 3)
    assert np.isfinite(first).all()
    assert (first != second).any()
    assert len(np.unique(first, axis=0)) <= 4  # two units have four codes


@styles
def test_every_style_is_saved_and_loaded_in_one_process(style, tmp_path):
    model = configure(STYLES[style]())
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert as_json(describe(loaded)) == as_json(describe(model))
    fit(model)
    fit(loaded)
    for key, value in arrays(model).items():
        np.testing.assert_array_equal(arrays(loaded)[key], value)
    assert RelaxModel.__bases__ == (keras.Model,)


@pytest.mark.parametrize(
    "estimator",
    [
        estimators.Vimco(),
        estimators.Rodeo(num_samples=3),
        estimators.DoubleCV(num_samples=3),
        estimators.Nvil(decay=0.5),
        estimators.Relax(num_samples=2),
        estimators.Relax(num_samples=2, num_conditional=3, coupled=False),
        estimators.Arms(num_samples=3),
        estimators.LeaveOneOut(num_samples=3),
        estimators.Reinforce(baseline="learned"),
        estimators.MuProp(),
        estimators.Exact(max_outcomes=4),
    ],
    ids=str,
)
def test_estimators_are_saved_with_all_that_they_learn(estimator, tmp_path):
    """Loaded, a model trains on exactly as the one that was saved."""
    samples = 3 if isinstance(estimator, estimators.Vimco) else None
    model = functional(seed=0)
    model.compile(
        pair(),
        BernoulliNLL(),
        estimator=with_surrogate(estimator, Network(units=(3,), name="network")),
        importance_samples=samples,
        run_eagerly=True,
    )
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.estimator) is type(estimator)
    assert repr(loaded.estimator) == repr(model.estimator)
    assert loaded.importance_samples == samples
    assert loaded.optimizer.built
    assert int(loaded.optimizer.iterations.numpy()) == 3
    names = [[(v.name, v.shape) for v in m.trained_variables] for m in (model, loaded)]
    assert names[0] == names[1]
    saved = arrays(model)
    assert arrays(loaded).keys() == saved.keys()
    for key, value in arrays(loaded).items():
        np.testing.assert_array_equal(value, saved[key])
    fit(model)
    fit(loaded)
    for key, value in arrays(model).items():
        np.testing.assert_array_equal(arrays(loaded)[key], value)
    moved = [key for key, value in arrays(loaded).items() if (value != saved[key]).any()]
    assert len(moved) >= len(model.trained_variables) - 1  # a baseline has no kernel for z = 0


def test_default_layers_are_saved(tmp_path):
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, RelaxBernoulli()(inputs))
    fit(compile_model(model, estimator="relax"))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    # As JSON: a file makes lists of the tuples in the shapes that inner layers were built with.
    loaded_config, config = (m.stochastic_layers[0].get_config() for m in (loaded, model))
    assert json.dumps(loaded_config) == json.dumps(config)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()


def test_an_uncompiled_model_is_saved(tmp_path):
    model = functional(inference="mode")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert not loaded.compiled


def test_a_mixed_precision_model_is_saved(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = compile_model(functional(seed=0))
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)
    fit(model)
    fit(loaded)
    assert_same(numpy(held(loaded)), numpy(held(model)))
    assert_same(numpy(loaded.optimizer.variables), numpy(model.optimizer.variables))


def test_export_serves_the_mode(tmp_path):
    model = functional(inference="mode")
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for size in (1, 10):
        np.testing.assert_allclose(
            loaded.serve(tf.constant(X[:size])), model.predict(X[:size], verbose=0), rtol=1e-5
        )


def test_names_given_to_the_compiler_are_resolved():
    for name in estimators.names():
        samples = 2 if name == "vimco" else None
        model = functional()
        compile_model(model, estimator=name, importance_samples=samples, run_eagerly=True)
        assert type(model.estimator) is type(estimators.get(name))
        again = estimators.deserialize(model.get_compile_config()["estimator"])
        assert repr(again) == repr(model.estimator)


if __name__ == "__main__":
    resume(pathlib.Path(sys.argv[1]))
