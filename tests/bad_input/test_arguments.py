"""Arguments that layers, estimators and losses do not take."""

import keras
import numpy as np
import pytest

from tests.bad_input.models import functional, unchanged
from tests.models import bernoulli
from tf_relax import estimators
from tf_relax.losses import BlackBox


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("estimator", ["Relax", "Rebar", "Lax", "Dlax"])
def test_temperature(estimator, temperature):
    message = f"{estimator}: `temperature`.*finite and above 0.*Received: {temperature}"
    with pytest.raises(ValueError, match=message):
        getattr(estimators, estimator)(temperature=temperature)


@pytest.mark.parametrize("estimator", ["Relax", "Lax", "Dlax", "Nvil", "Reinforce"])
@pytest.mark.parametrize(
    ("surrogate", "match"),
    [
        ("net", r"'net'.*\['network', 'objective', 'sum'\]"),
        (keras.layers.Dense(1), r"\['network', 'objective', 'sum'\].*Surrogate"),
    ],
    ids=["name", "object"],
)
def test_unknown_surrogate(estimator, surrogate, match):
    with pytest.raises(ValueError, match=match):
        getattr(estimators, estimator)(surrogate=surrogate)


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ({"inference": "median"}, "'code'.*`inference`.*'sample', 'mode', 'mean'.*'median'"),
        ({"kl": "exact"}, "'code'.*`kl`.*'analytic'.*'sampled'.*'exact'"),
        ({"prior": "unifrom"}, "'code'.*`prior`.*'uniform', 'learned'.*'unifrom'"),
        ({"prior": [0.0, np.inf]}, "'code'.*prior.*finite"),
    ],
    ids=["inference", "kl", "prior", "prior_logits"],
)
def test_unknown_option(argument, match):
    with pytest.raises(ValueError, match=match):
        bernoulli(**argument)


@pytest.mark.parametrize("estimator", ["relaxx", None, 3, estimators.Relax])
def test_unknown_estimator(estimator):
    model = functional(bernoulli())
    names = ["concrete", "rebar", "reinforce", "relax", "straight_through"]
    assert set(names) <= set(estimators.names())
    with unchanged(model), pytest.raises(ValueError, match=".*".join(names)):
        model.compile("sgd", "mse", estimator=estimator)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: estimators.Reinforce(baseline="mean"), "Reinforce: `baseline`.*'mean'"),
        (lambda: estimators.Reinforce(decay=1.0), r"Reinforce: `decay`.*\[0, 1\).*1.0"),
        (lambda: estimators.StraightThrough("hard"), "StraightThrough: `backward`.*'hard'"),
        (lambda: estimators.Nvil(decay=-0.1), r"Nvil: `decay`.*\[0, 1\).*-0.1"),
        (lambda: estimators.ReinMax(0.99), "ReinMax: `temperature`.*at least 1.*0.99"),
        (lambda: estimators.ReinMax(float("nan")), "ReinMax: `temperature`.*at least 1.*nan"),
        (lambda: estimators.Concrete(0), "Concrete: `temperature`.*above 0.*Received: 0"),
        (lambda: estimators.Concrete(float("nan")), "Concrete: `temperature`.*above 0.*nan"),
        (
            lambda: estimators.GumbelStraightThrough(-1.0),
            "GumbelStraightThrough: `temperature`.*above 0.*-1.0",
        ),
        (
            lambda: estimators.StraightThrough("relaxed", temperature=0),
            "StraightThrough: `temperature`.*above 0.*Received: 0",
        ),
        (lambda: BlackBox("mse"), "BlackBox needs a function.*'mse'"),
    ],
    ids=[
        "baseline",
        "decay",
        "backward",
        "nvil_decay",
        "reinmax",
        "reinmax_nan",
        "concrete",
        "concrete_nan",
        "gumbel",
        "straight_through",
        "black_box",
    ],
)
def test_unknown_option_elsewhere(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


@pytest.mark.parametrize("num_samples", [1, 0, -2])
@pytest.mark.parametrize("estimator", ["LeaveOneOut", "Arms", "DoubleCV", "Rodeo"])
def test_one_sample_has_no_others(estimator, num_samples):
    message = f"{estimator} compares samples.*at least 2.*num_samples={num_samples}"
    with pytest.raises(ValueError, match=message):
        getattr(estimators, estimator)(num_samples=num_samples)


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("argument", ["num_samples", "num_conditional"])
@pytest.mark.parametrize("estimator", ["Relax", "Rebar"])
def test_fewer_than_one_sample(estimator, argument, value):
    message = f"{estimator}: `{argument}` must be at least 1.*{value}"
    with pytest.raises(ValueError, match=message):
        getattr(estimators, estimator)(**{argument: value})
