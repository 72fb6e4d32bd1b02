"""Every public class keeps its arguments or refuses them, and questions change nothing."""

import copy
import inspect
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tf_relax
from tf_relax import callbacks, estimators, layers, losses, rl, sequences, surrogates

MODULES = [callbacks, estimators, layers, losses, rl, sequences, surrogates]

# Base classes, and what is made by others: nobody calls their constructors.
BASES = {
    "Decoder", "Discrete", "Estimate", "Estimator", "Finished", "MaskedActions", "Pass", "Passes",
    "PolicyEstimator", "PolicyGradient", "SequenceEstimator", "Sequences", "State", "Stochastic",
    "Surrogate",
}  # fmt: skip


@keras.saving.register_keras_serializable(package="tests")
def poisson(a):
    return tfp.distributions.Poisson(log_rate=a)


@keras.saving.register_keras_serializable(package="tests")
def standard_at(a):
    return tfp.distributions.Normal(a, 1.0)


@keras.saving.register_keras_serializable(package="tests")
def standard():
    return tfp.distributions.Normal(0.0, 1.0)


@keras.saving.register_keras_serializable(package="tests")
def first_pixel(y_true, y_pred):
    return y_pred[:, 0]


def critic():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def next_token():
    return keras.Sequential([keras.Input((None,), dtype="int32"), keras.layers.Embedding(3, 3)])


UNITS = {"inference": "mode", "seed": 3, "check_numerics": True, "name": "code"}
PRIOR = {**UNITS, "kl": "sampled", "kl_weight": 0.25}
LEARNED = {"temperature": 0.7, "scale": 0.3, "learn_temperature": False}

# Every class with arguments that are not its defaults, and the shape of a layer's logits.
CASES = [
    (layers.RelaxBernoulli, {**PRIOR, "prior": [0.5]}, (None, 4)),
    (
        layers.RelaxCategorical,
        {**PRIOR, "prior": [0.5, 0, 0, 0], "output": "index", "mask": [True, True, False, True]},
        (None, 4),
    ),
    (layers.RelaxCategorical, {"method": "stick_breaking"}, (None, 3)),
    (layers.RelaxPoisson, {**PRIOR, "prior": "learned"}, (None, 4)),
    (layers.RelaxGeometric, {**PRIOR, "prior": [0.5]}, (None, 4)),
    (layers.RelaxTopK, {"k": 3, **PRIOR, "prior": "learned", "output": "ordered"}, (None, 4)),
    (layers.RelaxPermutation, {"method": "matching", **PRIOR, "prior": "uniform"}, (None, 3, 3)),
    (layers.RelaxPermutation, {"output": "index"}, (None, 3)),
    (layers.RelaxSpanningTree, {**PRIOR, "prior": "uniform", "output": "adjacency"}, (None, 6)),
    (layers.RelaxSpanningTree, {"edges": [(0, 1), (1, 2)]}, (None, 2)),
    (
        layers.RelaxArborescence,
        {"nodes": 3, "root": 1, "edges": [(1, 0), (0, 2), (1, 2)], **PRIOR, "prior": "learned"},
        (None, 3, 3),
    ),
    (layers.GumbelSinkhorn, {"iterations": 5, "noise_scale": 0.5, **UNITS}, (None, 3, 3)),
    (layers.Rounding, {"iterations": 5, **UNITS}, (None, 3, 6)),
    (layers.RelaxNormal, {"prior": "standard", **UNITS}, (None, 4)),
    (
        layers.RelaxSample,
        {"make_distribution": poisson, "prior": standard, **UNITS},
        (None, 4),
    ),
    (layers.ConditionalPrior, {"kind": "categorical", "name": "held"}, None),
    (surrogates.Network, {"units": (5, 4), "activation": "tanh", "looks_at": ("context",)}, None),
    (surrogates.Network, {"looks_at": ("targets",), "targets_shape": (3,), "name": "net"}, None),
    (surrogates.Objective, {"name": "objective"}, None),
    (surrogates.Sum, {"surrogates": [surrogates.Network((3,))], "name": "total"}, None),
    (surrogates.Stein, {"units": 7, "name": "stein"}, None),
    (surrogates.KerasModel, {"model": critic(), "looks_at": (), "name": "critic"}, None),
    (estimators.Arms, {"num_samples": 3}, None),
    (estimators.Concrete, {"temperature": 0.25}, None),
    (estimators.Disarm, {}, None),
    (estimators.DisarmTree, {}, None),
    (estimators.SbCarms, {"num_samples": 3}, None),
    (estimators.Auto, {}, None),
    (estimators.UnorderedSet, {"num_samples": 3}, None),
    (estimators.Dlax, {"surrogate": "network", "num_samples": 2, **LEARNED}, None),
    (estimators.DoubleCV, {"num_samples": 3}, None),
    (estimators.Exact, {"max_outcomes": 5}, None),
    (estimators.GumbelStraightThrough, {"temperature": 0.25}, None),
    (
        estimators.Lax,
        {"surrogate": "objective", "num_samples": 3, "coupling": "antithetic", **LEARNED},
        None,
    ),
    (estimators.LeaveOneOut, {"num_samples": 3}, None),
    (estimators.MeasureValued, {}, None),
    (estimators.MuProp, {}, None),
    (estimators.Nvil, {"decay": 0.5, "normalize": True, "surrogate": "objective"}, None),
    (
        estimators.PerLayer,
        {"estimators": {"a": estimators.Relax(surrogate="network"), "b": estimators.Disarm()}},
        None,
    ),
    (
        estimators.Rebar,
        {"coupled": False, "num_samples": 3, "num_conditional": 2, **LEARNED},
        None,
    ),
    (estimators.ReinMax, {"temperature": 1.5}, None),
    (estimators.Reinforce, {"baseline": "learned", "decay": 0.5, "surrogate": "sum"}, None),
    (estimators.RejectionReparameterization, {}, None),
    (
        estimators.Relax,
        {
            "coupled": False,
            "num_samples": 3,
            "num_conditional": 2,
            "surrogate": "network",
            **LEARNED,
        },
        None,
    ),
    (estimators.Relax, {"surrogate": surrogates.Network((3,), name="net")}, None),
    (estimators.Reparameterization, {}, None),
    (estimators.Rodeo, {"num_samples": 3}, None),
    (estimators.StraightThrough, {"backward": "relaxed", "temperature": 0.25}, None),
    (estimators.Vimco, {}, None),
    (losses.BlackBox, {"fn": first_pixel, "reduction": "sum", "name": "box"}, None),
    (losses.BernoulliNLL, {"reduction": "sum", "name": "nll"}, None),
    (
        callbacks.BackupAndRestore,
        {"backup_dir": "backup", "save_freq": 3, "continuous": True},
        None,
    ),
    (callbacks.GradientVariance, {"x": np.ones((2, 3)), "y": np.ones(2), "frequency": 3}, None),
    (
        callbacks.Watch,
        {
            "x": np.ones((2, 3)),
            "y": np.ones(2),
            "log_dir": pathlib.Path("logs"),
            "output": pathlib.Path("page"),
            "frequency": 3,
            "gradients": 2,
            "dead_below": 0.2,
        },
        None,
    ),
    (
        tf_relax.RelaxOptimizer,
        {"optimizer": "sgd", "surrogate_optimizer": "rmsprop", "name": "pair"},
        None,
    ),
    (rl.A2C, {}, None),
    (rl.PolicyReinforce, {}, None),
    (rl.PolicyLax, {"trajectory_wise": True, "off_policy": rl.OffPolicy(50)}, None),
    (
        rl.PolicyRelax,
        {"coupled": False, "trajectory_wise": True, "off_policy": rl.OffPolicy(50)},
        None,
    ),
    (rl.VTrace, {"rollouts": 2, "max_rho": 2.0, "max_c": 0.5}, None),
    (rl.OffPolicy, {"capacity": 50, "updates": 3, "batch_size": 7}, None),
    (rl.Clip, {"epsilon": 0.1, "epochs": 3, "minibatches": 2, "normalize": False}, None),
    (rl.KLPenalty, {"target": 0.02, "steps": 3, "beta": 0.5}, None),
    (rl.NaturalGradient, {"max_kl": 0.02, "damping": 0.2, "iterations": 5}, None),
    (
        rl.Evaluate,
        {"frequency": 3, "n_episodes": 2, "path": None, "deterministic": False, "seed": 4},
        None,
    ),
    (rl.TensorBoardLog, {"log_dir": pathlib.Path("logs"), "frequency": 3}, None),
    (rl.EpisodeLog, {"path": pathlib.Path("monitor.csv")}, None),
    (rl.StopOnReward, {"threshold": 10, "window": 5}, None),
    (rl.PlotCurves, {"path": "curves.png"}, None),
    (rl.LinearAdvantage, {}, None),
    (rl.LegalActions, {"name": "legal"}, None),
    (rl.NormalParameters, {"units": 2}, None),
    (sequences.GroupNormalized, {"num_samples": 3, "by_length": False}, None),
    (sequences.SequenceLeaveOneOut, {"num_samples": 3}, None),
    (
        sequences.SequenceModel,
        {
            "decoder": next_token(),
            "max_length": 5,
            "stop_token": 1,
            "temperature": 0.5,
            "reference": next_token(),
            "name": "language",
        },
        None,
    ),
    (sequences.SequenceReinforce, {"num_samples": 3}, None),
    (
        sequences.SequenceRelax,
        {
            "num_samples": 3,
            "surrogate": surrogates.Network((3,), name="net"),
            "temperature": 0.25,
        },
        None,
    ),
    (sequences.SequenceUnorderedSet, {"num_samples": 3}, None),
]
IDS = [f"{kind.__module__.split('.')[1]}.{kind.__name__}" for kind, _, _ in CASES]
every_class = pytest.mark.parametrize(("kind", "arguments", "shape"), CASES, ids=IDS)


def attribute(kind, argument):
    """The name of the attribute: `output` of a Keras layer is its symbolic output."""
    of_layer = issubclass(kind, keras.layers.Layer) and argument == "output"
    return "output_kind" if of_layer else argument


def same(given, found):
    """Returns whether an attribute holds an argument, or what its name or its list stands for."""
    if isinstance(given, str) and not isinstance(found, str):
        names = {type(found).__name__.lower(), getattr(found, "__name__", "")}
        return given in names or given == str(found)
    if keras.ops.is_tensor(found) or isinstance(found, (keras.Variable, np.ndarray)):
        return np.allclose(np.asarray(found), np.asarray(given), rtol=1e-6)
    if isinstance(given, (list, tuple)):
        return list(found) == list(given)
    return found is given or found == given


def described(thing):
    """Returns what an object consists of, down to the arrays, in a form that compares."""
    attributes = {
        name: repr(value)
        for name, value in vars(thing).items()
        if not name.startswith(("_tracker", "_auto_track"))
    }
    relaxation = getattr(thing, "relaxation", None)
    return attributes, None if relaxation is None else {**vars(relaxation)}


def test_every_public_class_is_here():
    public = {
        getattr(module, name)
        for module in MODULES
        for name in module.__all__
        if inspect.isclass(getattr(module, name)) and name not in BASES
    }
    assert public <= {kind for kind, _, _ in CASES}, public - {kind for kind, _, _ in CASES}


@every_class
def test_an_attribute_holds_what_was_given(kind, arguments, shape):
    thing = kind(**copy.copy(arguments))
    for name, given in arguments.items():
        found = getattr(thing, attribute(kind, name))
        assert same(given, found), (name, given, found)
    if shape is not None:
        thing.build(shape)  # and after it has made its variables
        for name, given in arguments.items():
            found = getattr(thing, attribute(kind, name))
            assert same(given, found), (name, given, found)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [case[:2] for case in CASES if hasattr(case[0], "get_config")],
    ids=[name for name, case in zip(IDS, CASES, strict=True) if hasattr(case[0], "get_config")],
)
def test_the_config_makes_it_again(kind, arguments):
    thing = kind(**copy.copy(arguments))
    config = thing.get_config()
    again = kind.from_config(dict(config))
    assert repr(again.get_config()) == repr(config)
    assert set(arguments) <= set(config)


@every_class
def test_other_arguments_are_refused(kind, arguments, shape):
    with pytest.raises((TypeError, ValueError), match=r"no_such_argument|takes no arguments"):
        kind(**copy.copy(arguments), no_such_argument=1)


@pytest.mark.parametrize("built", [False, True], ids=["new", "built"])
@every_class
def test_a_question_changes_nothing(kind, arguments, shape, built):
    if shape is None:
        thing = kind(**copy.copy(arguments))
        before = described(thing)
        repr(thing), hasattr(thing, "get_config") and thing.get_config()
        assert described(thing) == before
        return
    layer = kind(**copy.copy(arguments))
    if built:
        layer.build(shape)
    logits = tf.zeros((2, *shape[1:]))
    before = described(layer)
    # The same question, and one about other sizes where the layer leaves them open.
    layer.compute_output_shape(shape)
    layer.compute_output_spec(keras.KerasTensor(shape))
    layer.compute_output_shape((7, *shape[1:]))
    if kind is layers.RelaxSpanningTree and "edges" not in arguments:
        assert layer.compute_output_shape((None, 10)) == (None, 5, 5)
    layer.compute_mask(logits, None), layer.get_config(), repr(layer)
    assert described(layer) == before
    if built:
        assert layer(logits, training=True).shape[1:] == layer.compute_output_shape(shape)[1:]


STOCHASTIC = [case for case in CASES if issubclass(case[0], layers.Stochastic)]


@pytest.mark.parametrize("argument", ["surrogate", "temperature", "scale"])
@pytest.mark.parametrize("kind", dict.fromkeys(case[0] for case in STOCHASTIC))
def test_layers_refuse_what_belongs_to_estimators(kind, argument):
    arguments = next(arguments for each, arguments, _ in STOCHASTIC if each is kind)
    with pytest.raises(ValueError, match=argument):
        kind(**arguments, **{argument: {"surrogate": "network"}.get(argument, 5.0)})


@pytest.mark.parametrize(
    ("layer", "estimator"),
    [
        (layers.RelaxNormal(), estimators.Lax(temperature=5.0)),
        (layers.RelaxSample(standard_at), estimators.Lax(temperature=5.0)),
        (layers.Rounding(), estimators.Dlax(temperature=5.0)),
    ],
    ids=["normal", "sample", "rounding"],
)
def test_layers_without_a_relaxation_have_no_temperature(layer, estimator):
    layer.build((None, 4, 8))
    state = estimator.build(layer, relaxable=True)
    state.build(None)
    assert state.temperature is state.log_temperature is None
