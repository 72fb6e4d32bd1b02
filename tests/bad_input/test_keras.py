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


def test_several_replicas(monkeypatch):
    class Strategy:
        num_replicas_in_sync = 2

    model = functional(bernoulli())
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=True)
    monkeypatch.setattr(tf.distribute, "get_strategy", Strategy)
    with pytest.raises(RuntimeError, match="does not train on 2 replicas"):
        model.differentiate(tf.ones((2, 3)), tf.ones((2, 4)))
