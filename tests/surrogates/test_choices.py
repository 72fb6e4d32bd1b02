"""How an estimator is given its surrogates: by name or as an object, one for every layer."""

import keras
import numpy as np
import pytest

import tf_relax
from tests.surrogates.models import OfLogits, X, Y, assert_all_change, critic, fit, relax_model
from tf_relax import RelaxModel, estimators, surrogates
from tf_relax.estimators import Dlax, LeaveOneOut, Nvil, Rebar, Relax
from tf_relax.layers import RelaxBernoulli
from tf_relax.losses import BernoulliNLL
from tf_relax.surrogates import KerasModel, Network, Objective, Sum, Surrogate

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


@pytest.mark.parametrize("estimator", [Relax, Rebar, Dlax], ids=lambda e: e.__name__)
def test_fixed_temperature(estimator):
    """The same estimate and the same gradients of all else, but for that of the temperature."""
    gradients = []
    for learn in (True, False):
        keras.utils.set_random_seed(0)
        model = relax_model(estimator=estimator(temperature=0.3, learn_temperature=learn))
        found = model.differentiate(X, Y)
        pairs = zip(found.variables, found.gradients, strict=True)
        gradients.append({v.path: g.numpy() for v, g in pairs})
    assert gradients[0].pop("code/log_temperature") != 0
    for one, other in zip(gradients[0].items(), gradients[1].items(), strict=True):
        np.testing.assert_allclose(one[1], other[1], rtol=1e-5, err_msg=f"{one[0]}, {other[0]}")
    state = model.estimator_state["code"]
    assert_all_change(model, [state.scale])
    np.testing.assert_allclose(state.temperature, 0.3, rtol=1e-6)


@pytest.mark.parametrize("estimator", [Relax, Rebar, Dlax], ids=lambda e: e.__name__)
def test_whether_the_temperature_is_learned_is_yes_or_no(estimator):
    message = f"{estimator.__name__}: `learn_temperature` must be True or False. Received: 0.3"
    with pytest.raises(ValueError, match=message):
        estimator(learn_temperature=0.3)


@pytest.mark.parametrize(
    ("estimator", "start"),
    [
        (Rebar(num_samples=2), 0.0),
        (Relax(num_samples=3), 0.0),
        (Relax(num_samples=2, surrogate="network"), 1.0),
        (Dlax(num_samples=2), 1.0),
        (Relax(), None),
        (Relax(num_samples=2, coupling="antithetic"), None),
    ],
    ids=repr,
)
def test_weight_of_the_other_samples(estimator, start):
    """It starts where nothing else takes the mean off the objective, and learns from there."""
    model = relax_model(estimator=estimator)
    weight = model.estimator_state["code"].baseline_weight
    if start is None:
        assert weight is None
        return
    assert float(weight.numpy()) == start
    assert_all_change(model, [weight])


def test_a_black_box_beside_the_objective_keeps_all_of_the_others():
    inputs = keras.Input((3,))
    code = RelaxBernoulli(name="code")(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, [keras.layers.Dense(2)(code), keras.layers.Dense(2)(code)])
    black_box = tf_relax.losses.BlackBox(lambda y_true, y_pred: 100 + y_pred[:, 0])
    model.compile("sgd", ["mse", black_box], estimator=Relax(num_samples=2))
    state = model.estimator_state["code"]
    assert state.scale is not None
    assert float(state.baseline_weight.numpy()) == 1


def test_all_of_the_others_is_leave_one_out():
    """With a network that is zero yet, as it starts."""
    noise = [np.random.default_rng(0).logistic(size=(2, 8, 4)).astype("float32")]
    gradients = []
    for estimator in (Relax(num_samples=2, surrogate="network"), LeaveOneOut(2)):
        keras.utils.set_random_seed(0)
        model = relax_model(estimator=estimator)
        gradients.append(model.differentiate(X, Y, noise=noise).logit_gradients[0])
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)
    assert np.abs(gradients[0]).max() > 0.01


def test_the_weight_descends_the_variance():
    """The variance is quadratic in it: a central difference is its derivative."""
    model = relax_model(estimator=Rebar(num_samples=2))
    weight = model.estimator_state["code"].baseline_weight
    noise = [np.random.default_rng(0).logistic(size=(2, 8, 4)).astype("float32")]

    def at(value):
        weight.assign(value)
        found = model.differentiate(X, Y, noise=noise)
        by_path = {v.path: g for v, g in zip(found.variables, found.gradients, strict=True)}
        return float(found.estimate.surrogate_loss), float(by_path[weight.path])

    (low, _), (_, derivative), (high, _) = at(-0.1), at(0.4), at(0.9)
    np.testing.assert_allclose(derivative, high - low, rtol=1e-4)
    assert derivative > 0


def test_the_network_beside_the_objective_is_small():
    assert [one.units for one in Sum().surrogates if isinstance(one, Network)] == [(50,)]
