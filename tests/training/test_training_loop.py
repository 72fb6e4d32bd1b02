"""RelaxModel in every part of the training loop of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models import relax, run_modes
from tests.training.models import (
    X,
    Y,
    assert_same,
    assign,
    bernoulli,
    compile_model,
    fit,
    functional,
    held,
    numpy,
)
from tf_relax import RelaxModel
from tf_relax.losses import BernoulliNLL


def saturated():
    """Logits far from zero: every pass, random or not, takes the same samples."""
    inputs = keras.Input((3,))
    encoder = keras.layers.Dense(
        2, kernel_initializer=keras.initializers.Constant([[80, 0], [0, 80], [0, 0]]), name="e"
    )
    code = bernoulli(prior="uniform")(encoder(inputs))
    return RelaxModel(inputs, keras.layers.Dense(3, name="d")(code))


SIGNS = np.where(X > 0, 1.0, -1.0).astype("float32")


@pytest.mark.parametrize("arguments", [{"run_eagerly": True}, {"jit_compile": False}])
@pytest.mark.parametrize("weighted", [False, True])
def test_history_shows_what_evaluate_shows(arguments, weighted):
    """Losses and metrics over 10 examples in batches of 4, the last of them smaller."""
    model = saturated()
    model.compile(
        keras.optimizers.SGD(0.0),
        BernoulliNLL(),
        metrics=["mae", keras.metrics.MeanSquaredError(name="squares")],
        weighted_metrics=["mse"],
        estimator=relax(),
        **arguments,
    )
    weight = np.arange(10.0) if weighted else None
    data = {"sample_weight": weight, "batch_size": 4, "verbose": 0}
    history = model.fit(SIGNS, Y, **data).history
    evaluated = model.evaluate(SIGNS, Y, return_dict=True, **data)
    assert set(history) == set(evaluated) == {"loss", "mae", "squares", "mse"}
    prediction = model.predict(SIGNS, verbose=0)
    np.testing.assert_allclose(history["mae"], [abs(prediction - Y).mean()], rtol=1e-5)
    for name, value in evaluated.items():
        np.testing.assert_allclose(history[name], [value], rtol=1e-5)
    nll = (np.logaddexp(0, prediction) - Y * prediction).sum(axis=1)
    w = np.ones(10) if weight is None else weight
    np.testing.assert_allclose(evaluated["loss"], (w * nll).mean() + 2 * np.log(2), rtol=1e-5)


def test_validation_data_and_validation_split():
    model = compile_model(functional(), metrics=["mae"])
    history = fit(model, epochs=2, validation_data=(X, Y))
    assert set(history) == {"loss", "mae", "val_loss", "val_mae"}
    history = fit(model, epochs=2, validation_split=0.2, validation_freq=2)
    assert len(history["val_loss"]) == 1


def test_validation_trains_nothing():
    model = compile_model(functional())
    fit(model)
    before = numpy(held(model))
    moments = numpy(model.optimizer.variables)
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    model.test_on_batch(X, Y)
    model.predict_on_batch(X)
    assert_same(numpy(held(model)), before)
    assert_same(numpy(model.optimizer.variables), moments)


@run_modes
def test_single_batches(run_eagerly):
    model = compile_model(functional(), metrics=["mae"], run_eagerly=run_eagerly)
    logs = model.train_on_batch(X[:4], Y[:4], return_dict=True)
    assert set(logs) == {"loss", "mae"}
    assert int(model.optimizer.iterations.numpy()) == 1
    weighted = model.train_on_batch(X[:4], Y[:4], sample_weight=np.ones(4), return_dict=True)
    assert np.isfinite(list(weighted.values())).all()
    by_class = model.train_on_batch(X[:4], Y[:4, :1] * np.ones(3), return_dict=True)
    assert np.isfinite(list(by_class.values())).all()
    assert set(model.test_on_batch(X[:4], Y[:4], return_dict=True)) == {"loss", "mae"}
    assert model.predict_on_batch(X[:4]).shape == (4, 3)


@pytest.mark.parametrize("steps_per_execution", [2, 3])
def test_several_steps_per_execution_equal_single_ones(steps_per_execution):
    """Three batches, the last smaller, do not fill two executions of two."""
    weights = []
    for steps in (1, steps_per_execution):
        keras.utils.set_random_seed(0)
        model = functional(seed=0)
        # Not Adam, whose first step is the sign of a gradient, and as large for rounding errors.
        optimizer = keras.optimizers.SGD(0.1)
        compile_model(model, optimizer, steps_per_execution=steps, jit_compile=False)
        history = fit(model, epochs=2)
        assert np.isfinite(history["loss"]).all()
        assert int(model.optimizer.iterations.numpy()) == 6
        weights.append(numpy(held(model)))
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_no_weight_is_written_before_the_last_replay_has_read_it():
    """The same two steps, 300 times: an early write showed in one run out of thirty.

    TensorFlow's graph optimizer drops the order of reads and writes of a variable that is read
    twice in the body of a loop, so the order has to follow from the gradients.
    """
    model = functional(seed=0)
    optimizer = keras.optimizers.SGD(0.1)
    compile_model(model, optimizer, steps_per_execution=2, jit_compile=False)
    (code,) = model.stochastic_layers
    variables = [*held(model), code.seed_generator.state]
    values = numpy(variables)
    data = tf.data.Dataset.from_tensor_slices((X[:8], Y[:8])).batch(4)
    outcomes = set()
    for _ in range(300):
        assign(variables, values)
        model.fit(data, shuffle=False, verbose=0)
        outcomes.add(b"".join(w.tobytes() for w in numpy(held(model))))
    assert len(outcomes) == 1


def test_datasets_and_generators():
    model = compile_model(functional())
    dataset = tf.data.Dataset.from_tensor_slices((X, Y, np.ones(10, "float32"))).batch(4)
    assert len(model.fit(dataset, epochs=2, shuffle=False, verbose=0).history["loss"]) == 2

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X[5 * index :][:5], Y[5 * index :][:5]

    assert model.fit(Batches(), verbose=0).history["loss"]
    assert int(model.optimizer.iterations.numpy()) == 3 * 2 + 2


def test_equal_seeds_train_alike(seed):
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(seed)
        model = compile_model(functional())
        fit(model, epochs=2, shuffle=True)
        results.append(numpy(held(model)))
    assert_same(*results)


def test_training_lowers_the_loss():
    """Eighty steps: from about 2.1 nats, which are three fair bits, to far less."""
    model = functional(prior=None)
    compile_model(model, keras.optimizers.Adam(0.1), jit_compile=False)
    x, y = np.tile(X, (20, 1)), np.tile(Y, (20, 1))
    losses = model.fit(x, y, batch_size=10, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
