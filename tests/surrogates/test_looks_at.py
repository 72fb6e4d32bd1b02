"""What surrogates look at, and what they may not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models import run_modes
from tests.surrogates.models import (
    OfLogits,
    X,
    Y,
    assert_all_change,
    critic,
    fit,
    relax_model,
    surrogate_of,
    values,
    weights,
)
from tf_relax import RelaxModel
from tf_relax._src.estimators.surrogate_value import network_value
from tf_relax.estimators import Dlax, Relax
from tf_relax.layers import RelaxBernoulli, RelaxNormal
from tf_relax.sites import Site
from tf_relax.surrogates import KerasModel, Network, Objective, Sum


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


@run_modes
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


@run_modes
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


@run_modes
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


@run_modes
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
