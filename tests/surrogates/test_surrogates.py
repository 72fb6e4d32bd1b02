"""Surrogates: what they are made of, what they may look at, and how they are saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.estimators.learned import taught
from tf_relax import RelaxModel, RelaxOptimizer, estimators, surrogates
from tf_relax._src.estimators.surrogate_value import network_value
from tf_relax.estimators import Dlax, Nvil, Rebar, Reinforce, Relax
from tf_relax.layers import RelaxBernoulli, RelaxNormal
from tf_relax.losses import BernoulliNLL
from tf_relax.sites import Site
from tf_relax.surrogates import KerasModel, Network, Objective, Sum, Surrogate

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = (X[:, :2] > 0).astype("float32")

modes = pytest.mark.parametrize("run_eagerly", [True, False], ids=["eager", "graph"])


def relax_model(surrogate="sum", context=False, **arguments):
    """Four units, three inputs, two targets."""
    inputs = keras.Input((3,))
    layer = RelaxBernoulli(name="code", seed=0)
    logits = keras.layers.Dense(4, name="encoder")(inputs)
    code = layer(logits, context=inputs) if context else layer(logits)
    model = RelaxModel(inputs, keras.layers.Dense(2, name="decoder")(code))
    arguments = {"run_eagerly": True, **arguments}
    arguments.setdefault("estimator", Relax(surrogate=surrogate))
    model.compile(keras.optimizers.Adam(0.1), BernoulliNLL(), **arguments)
    return model


def fit(model, **arguments):
    return model.fit(X, Y, batch_size=4, shuffle=False, verbose=0, **arguments)


def surrogate_of(model):
    (layer,) = model.stochastic_layers
    return model.estimator_state[layer.name].surrogate


def critic(*sizes, outputs=1, name="critic"):
    """A Keras model of z, four units, and of further tensors of the given sizes."""
    inputs = [keras.Input((size,)) for size in (4, *sizes)]
    joined = keras.layers.Concatenate()(inputs) if sizes else inputs[0]
    value = keras.layers.Dense(outputs)(keras.layers.Dense(5, "tanh")(joined))
    return keras.Model(inputs if sizes else inputs[0], value, name=name)


def values(variables):
    return [v.numpy() for v in variables]


def weights(model):
    """Those of the model, and what its estimator has learned."""
    return [*model.get_weights(), *values(model.estimator_state.variables)]


def assert_all_change(model, variables):
    before = values(variables)
    fit(model)
    for a, v in zip(before, variables, strict=True):
        assert (a != v.numpy()).any(), v.path


# ------------------------------------------------------------------------------ Keras models


@modes
@pytest.mark.parametrize(
    ("sizes", "looks_at"),
    [((), ()), ((4,), ("logits",)), ((4, 3), ("logits", "context"))],
    ids=["z", "logits", "context"],
)
def test_keras_model_trains_as_a_surrogate(sizes, looks_at, run_eagerly):
    model = relax_model(critic(*sizes), context=True, run_eagerly=run_eagerly)
    surrogate = surrogate_of(model)
    assert isinstance(surrogate, KerasModel)
    assert surrogate.looks_at == looks_at
    variables = surrogate.trainable_variables
    assert len(variables) == 4 + 1  # two dense layers, the intercept
    trained = {id(v) for v in model.trained_variables}
    assert {id(v) for v in variables} <= trained
    assert_all_change(model, variables)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_model_that_was_not_built_is_built_by_compile(jit_compile):
    layers = [keras.layers.Dense(5, "tanh"), keras.layers.Dense(1)]
    model = relax_model(keras.Sequential(layers), run_eagerly=False, jit_compile=jit_compile)
    assert layers[0].kernel.shape == (4, 5)
    assert_all_change(model, surrogate_of(model).trainable_variables)


class Critic(keras.Model):
    """A subclassed model of z and the logits."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def build(self, shapes):
        self.dense.build((None, shapes[0][-1] + shapes[1][-1]))
        self.built = True

    def call(self, inputs):
        return self.dense(keras.ops.concatenate(inputs, axis=-1))[:, 0]


def test_subclassed_model_is_told_what_it_looks_at():
    """It does not say how many inputs it has."""
    assert KerasModel(Critic()).looks_at == ()
    model = relax_model(KerasModel(Critic(), looks_at=("logits",)))
    assert_all_change(model, surrogate_of(model).trainable_variables)


def test_value_is_that_of_the_model_plus_the_intercept(rng):
    inner = critic(4)
    surrogate = surrogate_of(relax_model(inner))
    surrogate.intercept.assign(0.75)
    z, logits = (rng.normal(size=(6, 4)).astype("float32") for _ in range(2))
    value = surrogate(z, logits)
    assert value.shape == (6,)
    np.testing.assert_allclose(value, inner([z, logits])[:, 0] + 0.75, rtol=1e-6)


@pytest.mark.parametrize(
    ("count", "looks_at"),
    [(2, ("logits",)), (3, ("logits", "context")), (4, ("logits", "context", "targets"))],
)
def test_further_inputs_are_logits_then_context_then_targets(count, looks_at):
    assert KerasModel(critic(*[2] * (count - 1))).looks_at == looks_at


def test_model_gets_z_and_then_what_it_looks_at_in_its_own_order():
    shapes = []

    class Shapes(keras.layers.Layer):
        def call(self, tensors):
            shapes.append([tensor.shape[-1] for tensor in tensors])
            return keras.ops.sum(tensors[0], axis=-1)

    inputs = [keras.Input((size,)) for size in (4, 2, 3, 4)]
    inner = keras.Model(inputs, Shapes()(inputs))
    shapes.clear()
    model = relax_model(KerasModel(inner, looks_at=("targets", "context", "logits")), context=True)
    fit(model)
    assert shapes
    assert all(shape == [4, 2, 3, 4] for shape in shapes)


@pytest.mark.parametrize("context", [False, True])
def test_keras_model_is_saved_with_its_estimator(context, tmp_path):
    model = relax_model(critic(4, 3) if context else critic(), context=context)
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    mine, theirs = surrogate_of(model), surrogate_of(loaded)
    assert isinstance(theirs, KerasModel)
    assert theirs.looks_at == mine.looks_at
    assert [v.name for v in theirs.variables] == [v.name for v in mine.variables]
    assert any((a != 0).any() for a in values(mine.variables))
    for epoch in range(2):
        if epoch:
            fit(model)
            fit(loaded)
        for a, b in zip(weights(model), weights(loaded), strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_weights_of_the_surrogate_are_not_the_objective_s():
    """With the main learning rate at zero the surrogate alone moves."""
    model = relax_model(critic())
    pair = RelaxOptimizer(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1))
    model.compile(pair, BernoulliNLL(), estimator=model.estimator, run_eagerly=True)
    others = [*model.get_layer("encoder").weights, *model.get_layer("decoder").weights]
    before = values(others)
    assert_all_change(model, surrogate_of(model).trainable_variables)
    for a, v in zip(before, others, strict=True):
        np.testing.assert_array_equal(a, v.numpy())


@pytest.mark.parametrize(
    ("sizes", "looks_at"), [((4,), ()), ((), ("logits",)), ((4,), ("logits", "targets"))]
)
def test_wrong_number_of_inputs(sizes, looks_at):
    message = rf"'critic' has {1 + len(sizes)} inputs, and is given {1 + len(looks_at)} tensors"
    with pytest.raises(ValueError, match=message):
        KerasModel(critic(*sizes), looks_at=looks_at)


def test_too_many_inputs():
    with pytest.raises(ValueError, match=r"'critic' has 5 inputs, and is given 4 tensors"):
        KerasModel(critic(4, 3, 2, 1))


def summed():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.ops.sum(inputs), name="critic")


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(inputs, [keras.layers.Dense(1)(inputs) for _ in "ab"], name="critic")


@modes
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: critic(outputs=2), r"\((4|None), 2\)"),
        (summed, r"\(\)"),
        (two_outputs, r"\(2, (4|None), 1\)"),
    ],
    ids=["two", "scalar", "list"],
)
def test_wrong_output_shape(make, shape, run_eagerly):
    model = relax_model(make(), run_eagerly=run_eagerly)
    with pytest.raises(ValueError, match=rf"'critic'.*one value per example.*shape {shape}"):
        fit(model)


# ------------------------------------------------------------------------------ what they look at


@pytest.mark.parametrize("name", ["outputs", "loss", "b", "sample", "y_pred"])
@pytest.mark.parametrize(
    "make",
    [
        lambda names: Network(looks_at=names, name="critic"),
        lambda names: KerasModel(critic(4), looks_at=names),
    ],
    ids=["network", "keras_model"],
)
def test_what_the_sample_causes_is_refused_by_name(make, name):
    message = rf"'critic' cannot look at \['{name}'\].*before the sample.*sample causes.*biased"
    with pytest.raises(ValueError, match=message):
        make((name,))
    with pytest.raises(ValueError, match=message):
        make(name)


def test_targets_need_a_shape():
    with pytest.raises(ValueError, match=r"Network 'critic'.*targets.*`targets_shape`"):
        Network(looks_at=("targets",), name="critic")


TARGETS = {
    "network": lambda: Network(units=(5,), looks_at=("targets",), targets_shape=(2,)),
    "keras_model": lambda: KerasModel(critic(2), looks_at="targets"),
    "sum": lambda: Sum(
        [Objective(), Network(units=(5,), looks_at=("logits", "targets"), targets_shape=(2,))]
    ),
}


@modes
@pytest.mark.parametrize("kind", TARGETS)
def test_surrogate_that_looks_at_the_targets_trains(kind, run_eagerly):
    model = relax_model(TARGETS[kind](), run_eagerly=run_eagerly)
    assert "targets" in surrogate_of(model).looks_at
    # The last layer of a network starts at zero, and what lies before it moves one step later.
    fit(model)
    assert_all_change(model, surrogate_of(model).trainable_variables)


@pytest.mark.parametrize("kind", TARGETS)
def test_value_follows_the_targets(kind, rng):
    surrogate = surrogate_of(relax_model(TARGETS[kind]()))
    for variable in surrogate.variables:
        variable.assign(rng.normal(size=variable.shape))
    z = rng.normal(size=(8, 4)).astype("float32")
    given = {"logits": tf.zeros((8, 4))} if "logits" in surrogate.looks_at else {}
    first = surrogate(z, targets=Y, **given)
    second = surrogate(z, targets=1 - Y, **given)
    assert (np.asarray(first) != np.asarray(second)).all()


def test_labels_as_targets(rng):
    """One integer per example, which is cast."""
    inputs = keras.Input((3,))
    surrogate = Network(units=(5,), looks_at=("targets",), targets_shape=())
    code = RelaxBernoulli()(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(2)(code))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, estimator=Relax(surrogate=surrogate), run_eagerly=True)
    history = model.fit(X, rng.integers(0, 2, size=8), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@modes
@pytest.mark.parametrize("kind", TARGETS)
def test_step_without_targets(kind, run_eagerly):
    inputs = keras.Input((3,))
    layer = RelaxBernoulli(prior=[0.5], kl="sampled", name="code")
    model = RelaxModel(inputs, layer(keras.layers.Dense(4)(inputs)))
    model.compile("sgd", estimator=Relax(surrogate=TARGETS[kind]()), run_eagerly=run_eagerly)
    message = "RelaxBernoulli 'code' looks at the targets.*this step has none.*Pass `y`"
    with pytest.raises(ValueError, match=message):
        model.fit(X, verbose=0)


def test_step_with_several_targets():
    inputs = keras.Input((3,))
    code = RelaxBernoulli(name="code")(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, {name: keras.layers.Dense(2, name=name)(code) for name in "ab"})
    estimator = Relax(surrogate=TARGETS["network"]())
    model.compile("sgd", {"a": "mse", "b": "mse"}, estimator=estimator, run_eagerly=True)
    message = "RelaxBernoulli 'code' looks at the targets.*a single tensor"
    with pytest.raises(ValueError, match=message):
        model.fit(X, {"a": Y, "b": Y}, verbose=0)


@pytest.mark.parametrize(
    ("looks_at", "sees"),
    [((), ()), (("logits",), ("logits",)), ("logits", ("logits",)), (("context",), ("context",))],
    ids=["nothing", "logits", "string", "context"],
)
def test_network_looks_at_what_it_declares_alone(looks_at, sees, rng):
    network = Network(units=(5,), looks_at=looks_at)
    model = relax_model(network, context=True)
    assert surrogate_of(model) is network
    assert network.looks_at == sees
    for variable in network.variables:
        variable.assign(rng.normal(size=variable.shape))
    (layer,) = model.stochastic_layers
    z = tf.constant(rng.normal(size=(8, 4)), "float32")
    given = {
        "logits": tf.constant(rng.normal(size=(8, 4)), "float32"),
        "context": tf.constant(X),
        "targets": tf.constant(Y),
    }
    state = model.estimator_state["code"]

    def value(z, logits, context, targets):
        site = Site(layer, "code", logits, context, draw=None, state=state)
        return np.asarray(network_value(site, z, targets))

    first = value(z, **given)
    for name in given:
        other = value(z, **{**given, name: given[name] + 1})
        assert (other != first).all() == (name in sees), name
    assert (value(z + 1, **given) != first).all()


@modes
def test_network_that_looks_at_nothing_trains(run_eagerly):
    network = Network(units=(5,), looks_at=())
    model = relax_model(network, run_eagerly=run_eagerly)
    kernels = [v for v in values(network.variables) if v.ndim == 2]
    assert sorted(kernel.shape for kernel in kernels) == [(4, 5), (5, 1)]  # of z alone
    fit(model)
    assert_all_change(model, network.trainable_variables)


@pytest.mark.parametrize("kind", TARGETS)
def test_what_they_look_at_is_saved(kind, tmp_path):
    model = relax_model(TARGETS[kind]())
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert surrogate_of(loaded).looks_at == surrogate_of(model).looks_at
    fit(model)
    fit(loaded)
    for a, b in zip(weights(model), weights(loaded), strict=True):
        np.testing.assert_array_equal(a, b)


def test_sum_looks_at_what_its_terms_look_at():
    network = Network(units=(), looks_at=("context",))
    assert Sum([Objective(), network]).looks_at == ("context",)
    assert Sum([Objective()]).looks_at == ()
    targets = KerasModel(critic(2), looks_at=("targets",))
    assert Sum([targets, network]).looks_at == ("context", "targets")


def test_sum_adds_a_keras_model(rng):
    inner = critic(4)
    surrogate = Sum([Objective(), KerasModel(inner)])
    model = relax_model(surrogate)
    z, logits = (tf.constant(rng.normal(size=(8, 4)), "float32") for _ in range(2))
    np.testing.assert_allclose(surrogate(z, logits), inner([z, logits])[:, 0], rtol=1e-6)
    assert_all_change(model, surrogate.trainable_variables)


@keras.saving.register_keras_serializable(package="test_surrogates")
class OfLogits(Surrogate):
    """A surrogate of the user's that knows of no context and no targets."""

    looks_at = ("logits",)

    def build(self, z_shape, logits_shape=None, context_shape=None, targets_shape=None):
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, z, logits):
        return self.factor * tf.reduce_sum(z * logits, axis=1)


@modes
@pytest.mark.parametrize(
    "make",
    [
        OfLogits,
        lambda: Sum([Objective(), OfLogits()]),
    ],
    ids=["alone", "sum"],
)
def test_surrogate_of_the_user_gets_what_it_declares(make, run_eagerly, tmp_path):
    model = relax_model(make(), context=True, run_eagerly=run_eagerly)
    assert_all_change(model, surrogate_of(model).trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for a, b in zip(weights(model), weights(loaded), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layer_class", [RelaxBernoulli, RelaxNormal])
def test_surrogates_are_built_for_the_shape_of_the_samples(layer_class):
    """Normal units have two parameters each."""
    layer = layer_class()
    layer.build((None, 8))
    state = Dlax(surrogate=Network(units=(5,), looks_at=("logits",))).build(layer, True)
    state.build()
    shapes = [tuple(v.shape) for v in state.surrogate.trainable_variables if len(v.shape) == 2]
    units = 4 if layer_class is RelaxNormal else 8
    assert sorted(shapes) == sorted([(units, 5), (8, 5), (5, 1)])


# ------------------------------------------------------------------------------ sneaking a look


class Peeking(Surrogate):
    """Looks at whatever somebody left in `PEEKED`."""

    looks_at = ()

    def build(self, z_shape, logits_shape=None, context_shape=None, targets_shape=None):
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, z, logits=None, context=None, targets=None):
        total = self.factor * tf.reduce_sum(z, axis=1)
        for tensor in PEEKED:
            total += tf.reduce_sum(tensor, axis=1) * tf.reduce_mean(z, axis=1)
        return total


PEEKED = []


class Tells(RelaxModel):
    """Leaves a tensor of its forward pass where the surrogate finds it."""

    def __init__(self, what):
        super().__init__()
        self.what = what
        self.encoder = keras.layers.Dense(4)
        self.code = RelaxBernoulli(name="code")
        self.decoder = keras.layers.Dense(2)

    def build(self, input_shape):
        self.encoder.build(input_shape)
        self.code.build((None, 4))
        self.decoder.build((None, 4))
        self.built = True

    def call(self, x, training=None):
        logits = self.encoder(x)
        sample = self.code(logits, training=training)
        outputs = self.decoder(sample)
        seen = {"inputs": x, "logits": logits, "sample": sample, "outputs": outputs}
        PEEKED[:] = [seen[self.what]]
        return outputs


@pytest.fixture
def tells():
    yield Tells
    PEEKED.clear()


@pytest.mark.parametrize("what", ["sample", "outputs"])
@pytest.mark.parametrize(
    "estimator",
    [
        Relax(),
        Relax(coupled=False),
        Relax(num_samples=2),
        "dlax",
        "nvil",
        Reinforce(baseline="learned"),
    ],
    ids=str,
)
def test_surrogate_that_sneaks_a_look_is_refused_in_a_graph(tells, what, estimator):
    model = tells(what)
    model.build((None, 3))
    estimator = taught(estimator, Peeking())
    model.compile("sgd", BernoulliNLL(), estimator=estimator, jit_compile=False)
    before = weights(model)
    message = "surrogate Peeking of RelaxBernoulli 'code' looks at the sample.*biased.*`looks_at`"
    with pytest.raises(ValueError, match=message):
        fit(model)
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("what", ["inputs", "logits"])
def test_surrogate_may_see_what_exists_before_the_sample(tells, what):
    model = tells(what)
    model.build((None, 3))
    estimator = Relax(surrogate=Peeking())
    model.compile("sgd", BernoulliNLL(), estimator=estimator, jit_compile=False)
    assert np.isfinite(fit(model).history["loss"]).all()


# ------------------------------------------------------------------------------ by name


def test_surrogates_by_name():
    assert type(surrogates.get("objective")) is Objective
    assert type(surrogates.get("network", units=(7,))) is Network
    assert type(surrogates.get("sum")) is Sum
    network = Network()
    assert surrogates.get(network) is network
    assert type(surrogates.get(critic())) is KerasModel


@pytest.mark.parametrize("identifier", ["stein", 3, None, keras.layers.Dense(1)])
def test_unknown_surrogate(identifier):
    with pytest.raises(ValueError, match=r"Unknown surrogate.*\['network', 'objective', 'sum'\]"):
        surrogates.get(identifier)


# ------------------------------------------------------------------------------ of an estimator


CHOICES = {
    "name": lambda: "network",
    "network": lambda: Network(units=(3,), activation="tanh"),
    "sum": lambda: Sum([Objective(), Network(units=(2,), activation="tanh")]),
    "keras_model": critic,
}


@pytest.mark.parametrize("estimator", [Relax, Dlax, Nvil], ids=lambda e: e.__name__)
@pytest.mark.parametrize("kind", CHOICES)
def test_configuration_of_an_estimator(kind, estimator):
    mine = estimator(surrogate=CHOICES[kind]())
    theirs = estimators.deserialize(estimators.serialize(mine))
    assert type(theirs) is estimator
    assert estimators.serialize(theirs) == estimators.serialize(mine)
    assert type(theirs.surrogate) is type(mine.surrogate)
    layer = RelaxBernoulli()
    layer.build((None, 4))
    states = [each.build(layer, True) for each in (mine, theirs)]
    for state in states:
        state.build()
    assert states[0].surrogate is not states[1].surrogate
    signatures = [[(v.name, tuple(v.shape)) for v in state.variables] for state in states]
    assert signatures[0] == signatures[1]


@pytest.mark.parametrize("kind", CHOICES)
def test_every_layer_has_a_surrogate_of_its_own(kind):
    """An object serves the first; all have the shape of their own samples."""
    chosen = CHOICES[kind]()
    inputs = keras.Input((3,))
    first = RelaxBernoulli(name="first")(keras.layers.Dense(4)(inputs))
    second = RelaxBernoulli(name="second")(keras.layers.Dense(4)(first))
    model = RelaxModel(inputs, keras.layers.Dense(2)(second))
    model.compile("sgd", BernoulliNLL(), estimator=Relax(surrogate=chosen), run_eagerly=True)
    one, two = (model.estimator_state[name].surrogate for name in ("first", "second"))
    if isinstance(chosen, Surrogate):
        assert one is chosen
    assert type(one) is type(two)
    assert not {id(v) for v in one.variables} & {id(v) for v in two.variables}
    shapes = [[tuple(v.shape) for v in each.variables] for each in (one, two)]
    assert shapes[0] == shapes[1]
    fit(model)  # the last layer of a network starts at zero
    for each in (one, two):
        assert_all_change(model, each.trainable_variables)


class Uncopyable(OfLogits):
    """It does not say in its config what it is made of."""

    def __init__(self, factor):
        super().__init__()


def test_surrogate_that_cannot_be_copied():
    inputs = keras.Input((3,))
    first = RelaxBernoulli(name="first")(keras.layers.Dense(4)(inputs))
    second = RelaxBernoulli(name="second")(first)
    model = RelaxModel(inputs, keras.layers.Dense(2)(second))
    estimator = Relax(surrogate=Uncopyable(2))
    message = "(?s)RelaxBernoulli 'second' needs a copy of the surrogate Uncopyable.*compile"
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", BernoulliNLL(), estimator=estimator)
    each = {name: Relax(surrogate=Uncopyable(2)) for name in ("first", "second")}
    model.compile("sgd", BernoulliNLL(), estimator=each)
    assert type(model.estimator_state["second"].surrogate) is Uncopyable


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("estimator", [Relax, Rebar, Dlax], ids=lambda e: e.__name__)
def test_temperature_is_positive_and_finite(estimator, temperature):
    message = f"{estimator.__name__}: `temperature` must be finite and above 0"
    with pytest.raises(ValueError, match=message):
        estimator(temperature=temperature)


@pytest.mark.parametrize("estimator", [Relax, Rebar, Dlax], ids=lambda e: e.__name__)
def test_initial_temperature_and_scale(estimator):
    model = relax_model(estimator=estimator(temperature=0.3, scale=0.7))
    state = model.estimator_state["code"]
    np.testing.assert_allclose(state.temperature, 0.3, rtol=1e-6)
    np.testing.assert_allclose(state.scale.numpy(), 0.7, rtol=1e-6)
    assert_all_change(model, [state.log_temperature, state.scale])
