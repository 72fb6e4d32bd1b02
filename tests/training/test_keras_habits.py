"""What Keras users do every day beside `fit`: it works as in Keras, or an error says why not."""

import copy
import functools
import pickle
import subprocess
import sys

import joblib
import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tf_relax import RelaxModel, RelaxOptimizer
from tf_relax._src import compat
from tf_relax.estimators import Relax
from tf_relax.layers import RelaxBernoulli

X = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
Y = np.random.default_rng(1).standard_normal((4, 2)).astype("float32")


def bernoulli(**options):
    return RelaxBernoulli(**{"name": "code", **options})


def functional(cls=RelaxModel):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(2)(inputs))
    return cls(inputs, keras.layers.Dense(2, name="decoder")(code))


def sequential(cls=RelaxModel):
    layers = [keras.Input((3,)), keras.layers.Dense(2), bernoulli(), keras.layers.Dense(2)]
    return cls(layers)


@keras.saving.register_keras_serializable(package="test_keras_habits")
class Own(RelaxModel):
    """May be built in any style."""


@keras.saving.register_keras_serializable(package="test_keras_habits")
class Subclassed(RelaxModel):
    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.encoder, self.code = keras.layers.Dense(2), bernoulli()
        self.decoder = keras.layers.Dense(units)

    def call(self, x, training=None):
        return self.decoder(self.code(self.encoder(x), training=training))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="test_keras_habits")
class BuildsItself(RelaxModel):
    """Functional or sequential, with a constructor of its own."""

    def __init__(self, style="functional", **kwargs):
        if style == "sequential":
            layers = [keras.Input((3,)), keras.layers.Dense(2), bernoulli(), keras.layers.Dense(2)]
            super().__init__(layers, **kwargs)
        else:
            inputs = keras.Input((3,))
            code = bernoulli()(keras.layers.Dense(2)(inputs))
            super().__init__(inputs, keras.layers.Dense(2)(code), **kwargs)
        self.style = style

    def get_config(self):
        return {"name": self.name, "style": self.style}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


STYLES = {
    "functional": functional,
    "sequential": sequential,
    "functional_subclass": lambda: functional(Own),
    "sequential_subclass": lambda: sequential(Own),
    "subclassed": Subclassed,
    "builds_itself": BuildsItself,
    "builds_itself_sequentially": lambda: BuildsItself("sequential"),
}
styles = pytest.mark.parametrize("style", STYLES)


def compiled(model, optimizer="adam", loss="mse", **options):
    if isinstance(model, RelaxModel):
        options = {"estimator": Relax(surrogate="objective"), **options}
    model.compile(optimizer, loss, **{"run_eagerly": True, **options})
    return model


def fit(model, x=X, y=Y, **options):
    return model.fit(x, y, **{"verbose": 0, "shuffle": False, **options})


def held(model):
    """The variables of a compiled model, and what its estimator has learned."""
    return [*model.variables, *model.estimator_state.variables]


def assert_same_state(a, b):
    for one, other in zip(held(a), held(b), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)


# ------------------------------------------------------------------------------ pickle


def through_joblib(model, tmp_path):
    joblib.dump(model, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib")


COPIES = {
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "joblib": through_joblib,
}


@styles
def test_pickle(style, tmp_path):
    model = STYLES[style]()
    if model.built:
        for make_copy in COPIES.values():
            again = make_copy(model, tmp_path)
            assert type(again) is type(model)
            assert not again.compiled
    fit(compiled(model, RelaxOptimizer("adam", "sgd"), estimator="rebar"))
    for make_copy in COPIES.values():
        again = make_copy(model, tmp_path)
        assert type(again) is type(model)
        assert repr(again.estimator) == repr(model.estimator)
        assert_same_state(again, model)
        for one, other in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)
        fit(again)


UNPICKLE = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    models = pickle.load(file)
import numpy as np
from tf_relax import RelaxModel
for model in models:
    assert isinstance(model, RelaxModel), type(model)
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    weights = [v.numpy() for v in [*model.weights, *model.estimator_state.variables]]
    np.savez(f"{sys.argv[1]}-{type(model)._style.__name__}.npz", *weights)
"""


def test_unpickling_in_a_new_process(tmp_path):
    path, models = tmp_path / "models.pickle", [functional(), sequential()]
    for model in models:
        fit(compiled(model))
    path.write_bytes(pickle.dumps(models))
    subprocess.run([sys.executable, "-c", UNPICKLE, str(path)], check=True)
    for model in models:
        fit(model, np.ones((4, 3)), np.ones((4, 2)), shuffle=True)
        there = np.load(f"{path}-{type(model)._style.__name__}.npz")
        weights = [*model.weights, *model.estimator_state.variables]
        for name, weight in zip(there.files, weights, strict=True):
            np.testing.assert_allclose(there[name], weight.numpy(), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------ clones


@pytest.mark.parametrize("is_compiled", [False, True])
@styles
def test_clones_keep_their_class(style, is_compiled):
    model = STYLES[style]()
    if is_compiled:
        compiled(model, estimator="reinforce")
    model(X)
    clone = keras.models.clone_model(model)
    assert isinstance(clone, RelaxModel)
    assert clone is not model
    if "builds_itself" in style:  # a constructor of its own may not fit: Keras uses it for none
        assert clone._style is model._style
    else:
        assert type(clone) is type(model)
    assert clone.compiled == is_compiled
    if clone.compiled:
        assert repr(clone.estimator) == repr(model.estimator)
        fit(clone)
        assert model.optimizer is not clone.optimizer


def test_clones_of_plain_models_are_plain():
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    plain.compile("sgd", "mse")
    assert type(keras.models.clone_model(plain)) is keras.Sequential
    inputs = keras.Input((3,))
    assert not isinstance(
        keras.models.clone_model(keras.Model(inputs, keras.layers.Dense(2)(inputs))), RelaxModel
    )


def test_cloning_with_functions():
    """`clone_function` and new inputs reach the layers, in the compiled model too."""

    def rename(layer):
        return type(layer).from_config({**layer.get_config(), "name": f"new_{layer.name}"})

    for make in (functional, sequential):
        model = compiled(make())
        clone = keras.models.clone_model(model, clone_function=rename)
        kept = [layer for layer in clone.layers if "new" not in layer.name]
        assert all(isinstance(layer, keras.layers.InputLayer) for layer in kept)
        assert clone.compiled


def test_hook_finish_clones():
    """`compat.finish_clones` leaves `compiled` as it was, whatever happens."""
    model = compiled(sequential())
    with pytest.raises(ZeroDivisionError):
        keras.models.clone_model(model, clone_function=lambda layer: 1 / 0)
    assert model.compiled


@pytest.mark.parametrize("make", [functional, sequential])
def test_scikit_learn_classifier(make, tmp_path):
    from sklearn.base import clone

    model = make()
    if make is functional:
        model = RelaxModel(model.inputs, keras.layers.Softmax()(model.outputs[0]))
    else:
        model.add(keras.layers.Softmax())
    compiled(model, loss="categorical_crossentropy")
    classifier = keras.wrappers.SKLearnClassifier(model, fit_kwargs={"verbose": 0})
    x, labels = np.tile(X, (5, 1)), np.array(["no", "yes"] * 10)
    clone(classifier).fit(x, labels)
    classifier.fit(x, labels)
    assert isinstance(classifier.model_, RelaxModel)
    assert set(classifier.predict(x)) <= {"no", "yes"}
    joblib.dump(classifier.set_params(model=None), tmp_path / "classifier.joblib")
    again = joblib.load(tmp_path / "classifier.joblib")
    assert_same_state(again.model_, classifier.model_)
    assert set(again.predict(x)) <= {"no", "yes"}


def test_scikit_learn_relatives():
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, keras.layers.Dense(1)(bernoulli()(keras.layers.Dense(2)(inputs))))
    compiled(model)
    regressor = keras.wrappers.SKLearnRegressor(model, fit_kwargs={"verbose": 0})
    assert regressor.fit(X, Y[:, 0]).predict(X).shape == (4,)
    transformer = keras.wrappers.SKLearnTransformer(model, fit_kwargs={"verbose": 0})
    assert transformer.fit(X, Y[:, 0]).transform(X).shape == (4, 1)


# ------------------------------------------------------------------------------ moving averages


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_swap_ema_weights_as_in_keras(swap_on_epoch):
    """A branch of samples that the outputs ignore leaves an ordinary model."""

    def run(cls):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,))
        outputs = keras.layers.Dense(2, name="dense")(inputs)
        if cls is RelaxModel:
            outputs = outputs + 0.0 * bernoulli()(keras.layers.Dense(1)(inputs))
        model = compiled(cls(inputs, outputs), keras.optimizers.SGD(0.5, use_ema=True))
        seen = []
        callbacks = [
            keras.callbacks.SwapEMAWeights(swap_on_epoch),
            keras.callbacks.LambdaCallback(
                on_test_begin=lambda logs: seen.append(model.get_layer("dense").get_weights()[0]),
                on_epoch_end=lambda *_: seen.append(model.get_layer("dense").get_weights()[0]),
            ),
        ]
        fit(model, epochs=2, validation_data=(X, Y), callbacks=callbacks)
        return [*seen, model.get_layer("dense").get_weights()[0]], model

    expected, found = run(keras.Model)[0], run(RelaxModel)[0]
    assert len(expected) == 5
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.abs(found[2] - found[3]).max() > 1e-3 or swap_on_epoch


@pytest.mark.parametrize("averaged", ["main", "surrogate"])
def test_swap_ema_weights_of_one_optimizer_of_the_pair(averaged):
    pair = [keras.optimizers.SGD(0.5, use_ema=averaged == name) for name in ("main", "surrogate")]
    model = compiled(functional(), RelaxOptimizer(*pair))
    for _ in range(2):
        model.train_on_batch(X, Y)
    before, callback = [v.numpy() for v in held(model)], keras.callbacks.SwapEMAWeights()
    callback.set_model(model)
    callback.on_test_begin()
    swapped = [
        variable.path
        for variable, old in zip(held(model), before, strict=True)
        if (variable.numpy() != old).any()
    ]
    assert any("decoder" in path for path in swapped) == (averaged == "main")
    assert any("log_temperature" in path for path in swapped) == (averaged == "surrogate")
    callback.on_test_end()
    for old, new in zip(before, held(model), strict=True):
        np.testing.assert_allclose(old, new.numpy(), rtol=1e-6)


def test_hook_moving_averages():
    """`compat.moving_averages` finds what the optimizer keeps beside each variable."""
    variable = keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    optimizer.build([variable])
    optimizer.apply([keras.ops.ones(1)])
    assert compat.moving_averages(optimizer)[id(variable)].numpy() == pytest.approx(0.5, abs=0.51)
    assert compat.moving_averages(keras.optimizers.SGD()) == {}


def test_swap_ema_weights_without_averages():
    model = compiled(functional())
    with pytest.raises(ValueError, match="use_ema=True"):
        fit(model, validation_data=(X, Y), callbacks=[keras.callbacks.SwapEMAWeights()])


# ------------------------------------------------------------------------------ optimizers


def test_a_model_without_an_optimizer_does_all_but_train(tmp_path):
    model = compiled(functional(), optimizer=None)
    reference = compiled(functional(), "sgd")
    reference.set_weights(model.get_weights())
    reference.stochastic_layers[0].seed_generator.state.assign(
        model.stochastic_layers[0].seed_generator.state
    )
    expected, step = reference.differentiate(X, Y), model.differentiate(X, Y)
    for a, b in zip(expected.gradients, step.gradients, strict=True):
        np.testing.assert_array_equal(a, b)
    model.evaluate(X, Y, verbose=0)
    tf_relax.audit(model, X, Y, ["reinforce"], num_samples=8, surrogate_steps=0, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.optimizer is None
    for one in (model, again):
        with pytest.raises(ValueError, match="optimizer=None"):
            fit(one)


def lookups(gather):
    """Rows of a table as logits; `gather` looks them up."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2,), dtype="int32")
    a = keras.layers.Flatten()(gather(inputs))
    return RelaxModel(inputs, keras.layers.Dense(2)(bernoulli(seed=1)(a)))


class OneHot(keras.layers.Layer):
    """The same table as a product of matrices, whose gradient has all rows."""

    def __init__(self):
        super().__init__()
        self.embeddings = self.add_weight(shape=(5, 2), initializer="ones", name="embeddings")

    def call(self, x):
        return tf.one_hot(x, 5) @ self.embeddings


class Gather(OneHot):
    def call(self, x):
        return tf.gather(tf.convert_to_tensor(self.embeddings), x)


TABLES = {
    "embedding": lambda: keras.layers.Embedding(5, 2, embeddings_initializer="ones"),
    "gather": Gather,
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("optimizer", ["sgd", "clipnorm", "global_clipnorm", "accumulation"])
def test_rows_that_are_looked_up_train_as_in_a_product(table, optimizer):
    options = {
        "sgd": {},
        "clipnorm": {"clipnorm": 1e-3},
        "global_clipnorm": {"global_clipnorm": 1e-3},
        "accumulation": {"gradient_accumulation_steps": 2},
    }[optimizer]
    # By itself Keras measures the norm of a lookup before it adds up what one row gets twice.
    x, found = np.array([[0, 1], [2 if optimizer == "clipnorm" else 1, 3]]), []
    for make in (TABLES[table], OneHot):
        layer = make()
        model = compiled(lookups(layer), keras.optimizers.SGD(0.5, **options))
        fit(model, x, Y[:2], epochs=2)
        found.append(layer.embeddings.numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert (found[0] != 1).any()


@pytest.mark.parametrize("ways", [{"run_eagerly": True}, {"jit_compile": False}], ids=str)
def test_audit_of_rows_that_are_looked_up(ways):
    x, rows = np.array([[0, 1], [1, 3]]), []
    for make in (TABLES["embedding"], OneHot):
        model = compiled(lookups(make()), **{"run_eagerly": None, **ways})
        keras.utils.set_random_seed(2)
        options = {"num_samples": 8, "surrogate_steps": 1, "verbose": 0, "reference": "disarm"}
        rows.append(tf_relax.audit(model, x, Y[:2], ["disarm"], **options).rows[0])
    assert rows[0].weight_variance == pytest.approx(rows[1].weight_variance, rel=1e-3)
    assert rows[0].model_variance == pytest.approx(rows[1].model_variance, rel=1e-3)
    fit(model, x, Y[:2], callbacks=[tf_relax.callbacks.GradientVariance(x, Y[:2])])


# ------------------------------------------------------------------------------ inputs


class MaybeAdd(keras.layers.Layer):
    def call(self, x, other=None):
        return x if other is None else x + other

    def compute_output_spec(self, x, other=None):
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.parametrize("style", ["first", "last", "dict"])
@pytest.mark.parametrize("ways", [{"run_eagerly": True}, {"jit_compile": False}], ids=str)
def test_optional_inputs(style, ways):
    a, b = keras.Input((3,), name="b"), keras.Input((3,), name="a", optional=True)
    logits = keras.layers.Dense(2)(MaybeAdd()(a, b))
    outputs = keras.layers.Dense(2)(bernoulli(prior="uniform")(logits))
    inputs, without = {
        "first": ([b, a], [None, X]),
        "last": ([a, b], [X, None]),
        "dict": ({"a": b, "b": a}, {"a": None, "b": X}),
    }[style]
    model = compiled(RelaxModel(inputs, outputs), **{"run_eagerly": None, **ways})
    with_zeros = keras.tree.map_structure(lambda v: np.zeros_like(X) if v is None else v, without)
    state, losses = [v.numpy() for v in model.variables], []
    for x in (without, with_zeros):
        for variable, value in zip(model.variables, state, strict=True):
            variable.assign(value)
        losses.append(fit(model, x).history["loss"][0])
    if "run_eagerly" in ways:
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        tf_relax.audit(
            model, without, Y, ["reinforce"], num_samples=8, surrogate_steps=0, verbose=0
        )
        fit(model, without, callbacks=[tf_relax.callbacks.GradientVariance(without, Y)])
        tf_relax.metrics.importance_weighted_bound(model, without, Y, num_samples=2, verbose=0)
    model.evaluate(without, Y, verbose=0)
    model.predict(without, verbose=0)


class Pool(keras.layers.Layer):
    """Means over the words of a text."""

    def __init__(self):
        super().__init__()
        self.table = self.add_weight(shape=(5, 3), initializer="ones", name="table")

    def call(self, x):
        rows = tf.gather(tf.convert_to_tensor(self.table), x)
        return tf.reduce_mean(rows, axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 3)


@pytest.mark.parametrize("ways", [{"run_eagerly": True}, {"jit_compile": False}], ids=str)
def test_ragged_inputs(ways):
    inputs = keras.Input((None,), dtype="int32", ragged=True)
    code = bernoulli(prior="uniform")(keras.layers.Dense(2)(Pool()(inputs)))
    model = RelaxModel(inputs, keras.layers.Dense(2)(code))
    compiled(model, **{"run_eagerly": None, **ways})
    x = tf.ragged.constant([[1, 2], [3], [1, 2, 3], [4]])
    history = fit(model, x, callbacks=[tf_relax.callbacks.GradientVariance(x, Y)]).history
    assert np.isfinite(list(history.values())).all()
    model.evaluate(x, Y, verbose=0)
    assert model.predict(x, verbose=0).shape == (4, 2)
    tf_relax.audit(model, x, Y, ["disarm"], num_samples=8, surrogate_steps=1, verbose=0)
    tf_relax.metrics.importance_weighted_bound(model, x, Y, num_samples=2, verbose=0)


def test_sparse_inputs():
    inputs = keras.Input((3,), sparse=True)
    model = compiled(
        RelaxModel(inputs, keras.layers.Dense(2)(bernoulli()(keras.layers.Dense(2)(inputs))))
    )
    x = tf.sparse.from_dense(X)
    fit(model, x)
    tf_relax.audit(model, x, Y, ["reinforce"], num_samples=8, surrogate_steps=0, verbose=0)


# ------------------------------------------------------------------------------ saving


@pytest.mark.parametrize("make", [functional, sequential, Subclassed])
def test_legacy_hdf5_is_refused_before_a_file_is_touched(make, tmp_path):
    model = compiled(make())
    fit(model)
    for name in ("model.h5", "model.hdf5"):
        path = tmp_path / name
        path.write_text("precious")
        with pytest.raises(ValueError, match=r"HDF5.*save\('model.keras'\).*weights.h5"):
            model.save(path)
        assert path.read_text() == "precious"
    if make is not Subclassed:  # Keras itself refuses those
        with pytest.raises(ValueError, match="HDF5"):
            keras.saving.save_model(model, tmp_path / "other.h5")
    model.save_weights(tmp_path / "model.weights.h5")
    weights = [*model.weights, *model.estimator_state.variables]
    before = [v.numpy() for v in weights]
    fit(model)
    model.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(before, weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    model.save(tmp_path / "model.keras")


class WithoutArguments(RelaxModel):
    def __init__(self):
        super().__init__()


def test_hook_leaves_config_to_keras():
    """A constructor that takes no name gets none."""
    assert "name" not in WithoutArguments().get_config()
    assert not compat.saving_to_legacy_hdf5()


def test_hook_bind_build():
    """A constructor that builds a sequential model builds one, as that of `keras.Sequential`."""
    model = BuildsItself("sequential")
    assert model.built
    assert model.inputs[0].shape == (None, 3)
    assert [v.shape for v in model.layers[0].weights] == [(3, 2), (2,)]


# As in Keras, layers without weights say so.
unquantized = pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method:UserWarning")


@unquantized
# As in Keras, what an optimizer knew of kernels that are constants now is lost.
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_quantized_models_are_saved_and_train_as_in_keras(optimizer, tmp_path):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(2, name="encoder")(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(2, name="decoder")(code))
    fit(compiled(model, optimizer, estimator=Relax(surrogate="network")))
    surrogate = model.estimator_state["code"].surrogate.get_weights()
    assert surrogate
    model.quantize("int8")
    for name in ("encoder", "decoder"):
        assert model.get_layer(name).kernel.dtype == "int8"
    again = model.estimator_state["code"].surrogate.get_weights()
    for a, b in zip(surrogate, again, strict=True):
        np.testing.assert_array_equal(a, b)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert_same_state(again, model)
    bias = model.get_layer("decoder").bias.numpy()
    kernel = model.get_layer("decoder").get_weights()
    for one in (model, again):
        fit(one)  # biases learn, kernels are constants now
        assert (one.get_layer("decoder").bias.numpy() != bias).any()
        changed = [
            (a != b).any()
            for a, b in zip(kernel, one.get_layer("decoder").get_weights(), strict=True)
        ]
        assert sum(changed) == 1


@unquantized
@pytest.mark.parametrize(
    "filters", ["decoder", ["deco", "nothing"], lambda layer: layer.name == "decoder"]
)
def test_layers_to_be_quantized_are_chosen_as_in_keras(filters):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(2, name="encoder")(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(2, name="decoder")(code))
    compiled(model, estimator=Relax(surrogate="network"))
    model.quantize("int8", filters=filters)
    quantized = {v.path for v in held(model) if v.dtype == "int8"}
    assert quantized == {"decoder/kernel"}


# ------------------------------------------------------------------------------ losses


def scalar_losses():
    """All losses of Keras that return one number for a batch of predictions of rank 2."""
    found = []
    for name in dir(keras.losses):
        loss = getattr(keras.losses, name)
        if isinstance(loss, type) and issubclass(loss, keras.losses.Loss):
            try:
                values = loss().call(tf.ones((4, 2)), tf.ones((4, 2)))
            except (TypeError, ValueError, NotImplementedError, tf.errors.OpError):
                continue  # other arguments, other shapes
            if len(values.shape) == 0:
                found.append(name)
    return found


def test_these_losses_and_no_others_return_a_scalar():
    assert scalar_losses() == ["Dice", "Tversky"]


@pytest.mark.parametrize("loss", ["Dice", "Tversky", "dice", "tversky"])
def test_losses_over_the_whole_batch_name_the_way_per_example(loss):
    model = compiled(functional(), loss=loss if loss.islower() else getattr(keras.losses, loss)())
    remedy = rf"keras\.losses\.{loss.capitalize()}\(axis=\(1,\)\)"
    with pytest.raises(ValueError, match=f"scalar.*{remedy}"):
        fit(model)
    per_example = getattr(keras.losses, loss.capitalize())(axis=(1,))
    compiled(model, loss=per_example)
    step = model.differentiate(X, Y)
    expected = [float(per_example(Y[k : k + 1], step.y_pred[k : k + 1])) for k in range(4)]
    assert float(step.loss) == pytest.approx(np.mean(expected), rel=1e-5)
    with pytest.raises(ValueError, match=r"the shape \(2,\).*axis=\(1,\)"):
        fit(compiled(model, loss=getattr(keras.losses, loss.capitalize())(axis=0)))


def test_the_way_per_example_of_images():
    inputs = keras.Input((2, 2, 1))
    model = RelaxModel(inputs, bernoulli()(keras.layers.Conv2D(1, 1)(inputs)))
    x = np.ones((4, 2, 2, 1), "float32")
    with pytest.raises(ValueError, match=r"Dice\(axis=\(1, 2, 3\)\)"):
        fit(compiled(model, loss=keras.losses.Dice()), x, x)
    fit(compiled(model, loss=keras.losses.Dice(axis=(1, 2, 3))), x, x)


def test_outputs_without_a_last_dimension():
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(2)(inputs))
    model = RelaxModel(inputs, keras.ops.sum(code, axis=-1))
    with pytest.raises(ValueError, match=r"'mean_squared_error'.*shape \[batch, 1\]"):
        fit(compiled(model), y=Y[:, 0])


def test_circle_compares_the_examples_of_a_batch():
    """Every example answers for all that it is compared with."""
    model = compiled(functional(), loss=keras.losses.Circle())
    labels = np.array([0, 0, 1, 1])
    assert model.differentiate(X, labels).sites.batch_coupled
    assert not compiled(model).differentiate(X, Y).sites.batch_coupled


def test_compute_loss_without_training():
    class Older(RelaxModel):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return super().compute_loss(x, y, y_pred, sample_weight)

    assert np.isfinite(fit(compiled(functional(Older))).history["loss"]).all()


def test_models_without_trainable_weights_warn_as_in_keras():
    model = functional()
    model.trainable = False
    compiled(model)
    with pytest.warns(UserWarning, match="no trainable weights"):
        fit(model)


def test_metrics_inside_of_layers_count_a_batch_once():
    class Activity(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.mean = keras.metrics.Mean(name="activity")

        def call(self, x):
            self.mean.update_state(tf.reduce_mean(x))
            return x

    inputs = keras.Input((3,))
    layer = Activity()
    code = layer(bernoulli()(keras.layers.Dense(2)(inputs)))
    model = compiled(RelaxModel(inputs, keras.layers.Dense(2)(code)))
    history = fit(model, batch_size=2).history
    assert float(layer.mean.count) == 2
    assert 0 <= history["activity"][0] <= 1


@functools.cache
def _datasets():
    class Pairs(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, k):
            return X[2 * k : 2 * k + 2], Y[2 * k : 2 * k + 2]

    return Pairs()


def test_single_batches_and_datasets():
    model = compiled(functional(), metrics=["mae"], weighted_metrics=["mse"])
    model.train_on_batch(X, Y, sample_weight=np.ones(4))
    model.test_on_batch(X, Y)
    assert model.predict_on_batch(X).shape == (4, 2)
    fit(model, _datasets(), None, validation_data=_datasets())
