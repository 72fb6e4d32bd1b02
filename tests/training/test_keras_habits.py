"""What Keras users do every day beside `fit`: it works as in Keras, or an error says why not."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.models import bernoulli
from tests.training.habits import BuildsItself, X, Y, compiled, fit, functional
from tf_relax import RelaxModel


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


def test_hook_bind_build():
    """A constructor that builds a sequential model builds one, as that of `keras.Sequential`."""
    model = BuildsItself("sequential")
    assert model.built
    assert model.inputs[0].shape == (None, 3)
    assert [v.shape for v in model.layers[0].weights] == [(3, 2), (2,)]


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
