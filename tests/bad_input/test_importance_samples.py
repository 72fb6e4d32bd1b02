"""Estimators that do not take importance samples, or cannot do without."""

import keras
import numpy as np
import pytest

from tests.bad_input.models import X, Y, functional, refuses, unchanged
from tests.models import bernoulli, run_modes
from tf_relax import RelaxModel, estimators
from tf_relax.losses import BernoulliNLL


@pytest.mark.parametrize("importance_samples", [None, 1, 0, -1])
def test_vimco_compares_samples(importance_samples):
    model = functional(bernoulli(prior="uniform"))
    message = rf"Vimco.*K >= 2.*`importance_samples=K`.*importance_samples={importance_samples}"
    with unchanged(model), pytest.raises(ValueError, match=message):
        model.compile(
            "sgd", BernoulliNLL(), estimator="vimco", importance_samples=importance_samples
        )


WEIGHTED = {
    "concrete",
    "gumbel_straight_through",
    "reinforce",
    "reinmax",
    "reparameterization",
    "straight_through",
    "vimco",
}


@pytest.mark.parametrize("name", sorted(set(estimators.names()) - WEIGHTED))
def test_estimators_of_a_mean_over_samples_refuse_the_logarithm_of_one(name):
    model = functional(bernoulli(prior="uniform"))
    estimator = type(estimators.get(name)).__name__
    message = rf"{estimator}\(.*mean over samples.*importance_samples=3.*'vimco' or 'reinforce'"
    with unchanged(model), pytest.raises(ValueError, match=message):
        model.compile("sgd", BernoulliNLL(), estimator=name, importance_samples=3)


@pytest.mark.parametrize("name", sorted(WEIGHTED - {"reparameterization"}))
def test_the_others_take_it(name):
    model = functional(bernoulli(prior="uniform"))
    model.compile("sgd", BernoulliNLL(), estimator=name, importance_samples=2, run_eagerly=True)
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("importance_samples", [0, -1])
@pytest.mark.parametrize("name", ["relax", "reinforce", "concrete", "disarm", "exact"])
def test_fewer_than_one_importance_sample(name, importance_samples):
    model = functional(bernoulli(prior="uniform"))
    message = f"`importance_samples` must be at least 1.*{importance_samples}"
    with unchanged(model), pytest.raises(ValueError, match=message):
        model.compile("sgd", BernoulliNLL(), estimator=name, importance_samples=importance_samples)


@run_modes
@pytest.mark.parametrize("name", ["vimco", "reinforce", "concrete"])
def test_importance_samples_without_a_prior(name, run_eagerly):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(4)(code), name="model")
    model.compile(
        "sgd", BernoulliNLL(), estimator=name, importance_samples=3, run_eagerly=run_eagerly
    )
    message = "RelaxModel 'model'.*importance_samples=3.*no prior.*prior='learned'"
    refuses(ValueError, message, model)
