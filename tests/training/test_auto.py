"""`estimator="auto"`: what it chooses for a model, when, and what files keep of it."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.models import costs
from tests.training.models import Subclassed
from tf_relax import RelaxModel, audit, layers
from tf_relax.estimators import (
    Arms,
    Auto,
    Exact,
    Lax,
    LeaveOneOut,
    PerLayer,
    Reinforce,
    RejectionReparameterization,
    Relax,
    Reparameterization,
    UnorderedSet,
    Vimco,
)
from tf_relax.losses import BernoulliNLL, BlackBox

X = np.random.default_rng(0).integers(0, 2, (8, 6)).astype("float32")
REFLECTED = Relax(surrogate="objective", num_samples=2, coupling="antithetic")
BITS = Arms(4)
QUIET = Relax(
    surrogate="objective", num_conditional=3, coupling="antithetic", learn_temperature=False
)
PARTLY = Relax(num_samples=2, coupling="antithetic")
NETWORK = Lax(surrogate="network", num_samples=2, coupling="antithetic")
MSE, BLACK_BOX = "mse", BlackBox(costs)


def chain(*stochastic, between=()):
    """Returns an encoder, stochastic layers with a dense one before each, and a decoder."""
    x = inputs = keras.Input((6,))
    for width, layer in stochastic:
        x = layer(keras.layers.Dense(width)(x))
        for other in between:
            x = other(x)
        x = keras.layers.Flatten()(x)
    return RelaxModel(inputs, keras.layers.Dense(6)(x))


def bits(units=6, **arguments):
    return units, layers.RelaxBernoulli(**{"name": "bits", "prior": "uniform", **arguments})


def choice(**arguments):
    return 9, layers.RelaxCategorical(**{"name": "choice", **arguments})


def counts():
    return 4, layers.RelaxPoisson(name="counts")


def normal():
    return 8, layers.RelaxNormal(name="normal", prior="standard")


def gamma():
    def distribution(a):
        return tfp.distributions.Gamma(tf.exp(a), 1.0)

    return 8, layers.RelaxSample(distribution, sampler="rejection", name="gamma")


def permutation():
    return 5, layers.RelaxPermutation(name="order")


def subset():
    return 5, layers.RelaxTopK(2, name="subset")


def choices():
    inputs = keras.Input((6,))
    logits = keras.layers.Reshape((3, 4))(keras.layers.Dense(12)(inputs))
    code = keras.layers.Flatten()(layers.RelaxCategorical()(logits))
    return RelaxModel(inputs, keras.layers.Dense(6)(code))


def index():
    return 9, layers.RelaxCategorical(output="index", name="index")


def embedded(*stochastic):
    """Returns a model that looks up a row for an index after its other samples."""
    x = inputs = keras.Input((6,))
    for width, layer in stochastic:
        x = layer(keras.layers.Dense(width)(x))
    rows = keras.layers.Embedding(9, 3)(x)
    return RelaxModel(inputs, keras.layers.Dense(6)(rows))


CHOICES = {
    "bits": (lambda: chain(bits()), MSE, BITS),
    "two layers of bits": (lambda: chain(bits(), bits(name="more")), MSE, REFLECTED),
    "permutations": (lambda: chain(permutation()), MSE, REFLECTED),
    "several choices": (lambda: choices(), MSE, REFLECTED),
    "subsets": (lambda: chain(subset()), MSE, LeaveOneOut(4)),
    "one choice": (lambda: chain(choice()), MSE, UnorderedSet(4)),
    "few outcomes": (lambda: chain(bits(3)), MSE, Exact(8)),
    "few outcomes and a frozen decoder": (
        lambda: chain(bits(3), between=[keras.layers.Dense(4, trainable=False)]),
        MSE,
        Exact(8),
    ),
    "few outcomes, a loss per sample": (lambda: chain(bits(3)), BLACK_BOX, Arms(4)),
    "few outcomes and dropout": (
        lambda: chain(bits(3), between=[keras.layers.Dropout(0.5)]),
        MSE,
        BITS,
    ),
    "few outcomes and batch statistics": (
        lambda: chain(bits(3), between=[keras.layers.BatchNormalization()]),
        MSE,
        BITS,
    ),
    "few outcomes of each of two layers": (
        lambda: chain(bits(2), bits(2, name="more")),
        MSE,
        REFLECTED,
    ),
    "counts": (lambda: chain(counts()), MSE, LeaveOneOut(4)),
    "normal": (lambda: chain(normal()), MSE, Reparameterization()),
    "gamma": (lambda: chain(gamma()), MSE, RejectionReparameterization()),
    "bits, black box": (lambda: chain(bits()), BLACK_BOX, Arms(4)),
    "one choice, black box": (lambda: chain(choice()), BLACK_BOX, UnorderedSet(4)),
    "one choice behind batch statistics, black box": (
        lambda: chain(choice(), between=[keras.layers.BatchNormalization()]),
        BLACK_BOX,
        LeaveOneOut(4),
    ),
    "permutations, black box": (lambda: chain(permutation()), BLACK_BOX, LeaveOneOut(4)),
    "normal, black box": (lambda: chain(normal()), BLACK_BOX, NETWORK),
    "bits, black box in part": (lambda: two_losses(bits()), ["mse", BLACK_BOX], PARTLY),
    "an index": (lambda: embedded(index()), MSE, UnorderedSet(4)),
    "bits and normal": (
        lambda: chain(bits(), normal()),
        MSE,
        PerLayer({"bits": REFLECTED, "normal": Reparameterization()}),
    ),
    "bits and one choice": (
        lambda: chain(bits(), choice()),
        MSE,
        PerLayer({"bits": REFLECTED, "choice": UnorderedSet(4)}),
    ),
    # The objective cannot be relaxed after the bits, as counts and indices would jump.
    "bits and counts": (lambda: chain(bits(), counts()), MSE, LeaveOneOut(4)),
    "bits and an index": (
        lambda: embedded(bits(), index()),
        MSE,
        PerLayer({"bits": Arms(4), "index": UnorderedSet(4)}),
    ),
}


def two_losses(stochastic):
    width, layer = stochastic
    inputs = keras.Input((6,))
    code = layer(keras.layers.Dense(width)(inputs))
    return RelaxModel(inputs, [keras.layers.Dense(6)(code), keras.layers.Dense(6)(code)])


@pytest.mark.parametrize(("make", "loss", "expected"), CHOICES.values(), ids=list(CHOICES))
def test_what_is_chosen_trains(make, loss, expected):
    model = make()
    y = [X, X] if isinstance(loss, list) else X
    model.compile("adam", loss=loss, run_eagerly=True)
    assert repr(model.estimator) == repr(expected)
    assert model.estimator.unbiased
    assert model.estimator.reason
    step = model.differentiate(X, y)
    assert all(np.isfinite(g).all() for g in step.logit_gradients)
    assert any(np.any(g) for g in step.logit_gradients)


@pytest.mark.parametrize("bits_first", [True, False])
def test_a_mixture_is_unbiased(bits_first, seed):
    """Against the sum over all outcomes; the z-score of an audit is standard normal."""
    kinds = [bits(2, prior=None), (3, layers.RelaxCategorical(name="choice"))]
    model = chain(*(kinds if bits_first else kinds[::-1]))
    for variable in model.trainable_variables:
        variable.assign(2 * variable)
    mixture = PerLayer({"bits": REFLECTED, "choice": UnorderedSet(2)})
    model.compile("adam", "mse", estimator=mixture, jit_compile=False)
    report = audit(model, X, X, {"mixture": mixture}, 4000, "exact", surrogate_steps=20, verbose=0)
    for row in report.rows:
        assert abs(row.z) < 5  # fails by chance once in 400,000 runs
        assert row.snr > 0.02  # there is something to be biased


@pytest.mark.parametrize(
    ("samples", "stochastic", "expected"),
    [
        (5, bits(), Vimco()),
        (5, normal(), Reparameterization()),
        (1, bits(), Reinforce()),
    ],
    ids=["bits", "normal", "one sample"],
)
def test_importance_weighted_bound(samples, stochastic, expected):
    model = chain(stochastic)
    model.compile("adam", BernoulliNLL(), importance_samples=samples, run_eagerly=True)
    assert repr(model.estimator) == repr(expected)
    model.train_on_batch(X, X)


def test_a_layer_that_is_called_twice_is_not_enumerated():
    inputs = keras.Input((6,))
    code, dense = layers.RelaxBernoulli(), keras.layers.Dense(2)
    both = keras.layers.Concatenate()([code(dense(inputs)), code(dense(inputs[:, ::-1]))])
    model = RelaxModel(inputs, keras.layers.Dense(6)(both))
    model.compile("adam", "mse")
    assert repr(model.estimator) == repr(BITS)


class Annealed(keras.layers.Layer):
    """Scales by a weight that a callback may change, and no gradient does."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", trainable=False)

    def call(self, x):
        return self.scale * x


@pytest.mark.parametrize(
    ("between", "coupled", "expected"),
    [
        (Annealed, None, BITS),  # may be a statistic
        (Annealed, False, Exact(8)),
        (keras.layers.LayerNormalization, None, Exact(8)),
        (keras.layers.LayerNormalization, True, BITS),  # a layer that nobody knows, say
        (keras.layers.BatchNormalization, None, BITS),
    ],
)
def test_what_is_said_of_the_batch_goes_before_what_is_guessed(between, coupled, expected):
    model = chain(bits(3), between=[between()])
    model.compile("adam", "mse", batch_coupled=coupled)
    assert repr(model.estimator) == repr(expected)


# --------------------------------------------------------------------------------- when


def subclassed():
    keras.utils.set_random_seed(0)
    return Subclassed(units=5, outputs=6)


def unbuilt():
    """A model whose data build it, and whose estimator has something to learn."""
    keras.utils.set_random_seed(0)
    width, layer = permutation()
    dense = keras.layers.Dense
    return RelaxModel([dense(width), layer, keras.layers.Flatten(), dense(6)])


def test_a_model_that_is_built_later_chooses_then(caplog):
    """It trains as with the estimator that it chooses, bit for bit, surrogates included."""
    caplog.set_level(logging.INFO, "tf_relax")
    weights, scales = [], []
    for estimator in ["auto", REFLECTED]:
        model = unbuilt()
        model.compile(
            keras.optimizers.Adam(0.1), BernoulliNLL(), estimator=estimator, jit_compile=False
        )
        assert isinstance(model.estimator, Auto if estimator == "auto" else Relax)
        model.fit(X, X, batch_size=4, epochs=2, verbose=0)
        assert repr(model.estimator) == repr(REFLECTED)
        weights.append(model.get_weights())
        (state,) = model.estimator_state.by_layer.values()
        scales.append(float(state.scale.value))
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert scales[0] == scales[1] != pytest.approx(1.0)
    told = [each.getMessage() for each in caplog.records if each.name == "tf_relax"]
    assert len(told) == 1
    assert repr(REFLECTED) in told[0]
    assert "the objective has a derivative" in told[0]


def test_the_default_is_auto():
    model = chain(bits())
    model.compile("adam", "mse")
    assert repr(model.estimator) == repr(BITS)


def test_a_model_that_has_trained_chooses_as_a_new_one():
    model = chain(bits(3))
    for _ in range(2):
        model.compile("adam", "mse", metrics=["mae"], run_eagerly=True)
        assert repr(model.estimator) == repr(Exact(8))
        model.train_on_batch(X, X)


def test_layers_of_one_name():
    """No estimator for each can be given by name."""
    nested = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6), bits(name="one")[1]])
    inputs = keras.Input((6,))
    counted = layers.RelaxPoisson(name="one")(keras.layers.Dense(2)(nested(inputs)))
    model = RelaxModel(inputs, keras.layers.Dense(6)(counted))
    model.compile("adam", "mse", run_eagerly=True)
    assert repr(model.estimator) == repr(LeaveOneOut(4))


def test_another_loss_is_another_choice_and_the_same_goes_on():
    model = chain(permutation())
    model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
    model.train_on_batch(X, X)
    learned = float(model.estimator_state["order"].scale.value)
    model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
    assert float(model.estimator_state["order"].scale.value) == learned != pytest.approx(1.0)
    model.compile("adam", BLACK_BOX)
    assert repr(model.estimator) == repr(LeaveOneOut(4))


# --------------------------------------------------------------------------------- files


def test_files_keep_the_choice(tmp_path):
    model = chain(permutation())
    model.compile(keras.optimizers.Adam(0.1), BernoulliNLL(), jit_compile=False)
    model.fit(X, X, verbose=0)
    model.save(tmp_path / "model.keras")
    other = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(other.estimator) == repr(REFLECTED)
    for each in (model, other):
        each.fit(X, X, verbose=0)
    for a, b in zip(model.trained_variables, other.trained_variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_file_of_a_model_that_has_not_chosen_yet(tmp_path):
    model = subclassed()
    model.compile("adam", BernoulliNLL(), jit_compile=False)
    config = model.get_compile_config()
    other = subclassed()
    other.compile_from_config(config)
    assert isinstance(other.estimator, Auto)
    other.fit(X, X, verbose=0)
    assert repr(other.estimator) == repr(BITS)
    other.save_weights(tmp_path / "model.weights.h5")


# --------------------------------------------------------------------------------- audits


def test_audit_compares_the_candidates():
    model = chain(bits(3))
    model.compile("adam", "mse", jit_compile=False)
    report = audit(model, X, X, num_samples=8, surrogate_steps=1, verbose=0)
    names = list(report.to_dict())
    assert names[0] == repr(Exact(8))
    assert {repr(BITS), repr(QUIET), repr(Arms(4)), repr(LeaveOneOut(4))} <= set(names)
    assert report.recommended in names


def test_audit_measures_the_choice():
    model = chain(bits())
    model.compile("adam", "mse", estimator=LeaveOneOut(2), jit_compile=False)
    report = audit(model, X, X, ["auto"], num_samples=8, surrogate_steps=1, verbose=0)
    (row,) = report.rows
    assert row.estimator == "auto"
    assert row.evaluations == 4
    with model.using("auto"):
        assert repr(model.estimator) == repr(BITS)
    assert repr(model.estimator) == repr(LeaveOneOut(2))


# --------------------------------------------------------------------------------- nothing


def test_nothing_to_estimate():
    model = RelaxModel([keras.Input((6,)), keras.layers.Dense(6)])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="has no stochastic layer"):
        model.fit(X, X, verbose=0)


def test_a_choice_for_one_layer_of_several():
    with pytest.raises(ValueError, match="works on all layers of a model together"):
        chain(bits(), normal()).compile("adam", "mse", estimator={"bits": "auto", "normal": "lax"})
