"""Optimizers, backends and strategies that do not work, and steps of Keras left out."""

import runpy

import keras
import pytest
import tensorflow as tf

import tf_relax
from tests.bad_input.models import functional, refuses, unchanged
from tests.models import bernoulli, relax


def test_model_that_was_not_compiled():
    model = functional(bernoulli())
    refuses(ValueError, "compile", model)


def test_targets_are_missing():
    model = functional(bernoulli())
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=True)
    refuses(ValueError, "(?i)target|`?y`?", model, y=None)


def test_optimizer_that_scales_the_loss_by_itself():
    model = functional(bernoulli())
    with unchanged(model), pytest.raises(ValueError, match="Wrap the pair instead"):
        model.compile(keras.optimizers.Adam(loss_scale_factor=8.0), "mse")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(backend, monkeypatch):
    """Keras answers with another backend; nothing but the import of the package is run."""
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(ImportError, match=f"'{backend}'.*KERAS_BACKEND=tensorflow"):
        runpy.run_path(tf_relax.__file__)


def test_workers_that_do_not_wait_for_one_another(monkeypatch):
    """A real one would need servers; nothing of it is asked but what it is."""
    strategy = object.__new__(tf.distribute.ParameterServerStrategy)
    model = functional(bernoulli())
    with monkeypatch.context() as patch:
        patch.setattr(tf.distribute, "get_strategy", lambda: strategy)
        match = r"ParameterServerStrategy.*do not wait.*Use MultiWorkerMirroredStrategy"
        with pytest.raises(ValueError, match=match):
            model.compile("sgd", "mse", estimator=relax())
    assert not model.compiled
