"""The variance that `fit` logs: its value, where it appears, and that training does not notice."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tf_relax.callbacks import GradientVariance

X = np.random.default_rng(0).standard_normal((32, 3)).astype("float32")
KEYS = {"code_gradient_variance", "code_gradient_snr"}


def compiled(estimator="relax", learning_rate=0.01, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization()(inputs)
    code = tf_relax.layers.RelaxBernoulli(name="code")(keras.layers.Dense(2)(x))
    outputs = keras.layers.Dense(3)(keras.layers.Dropout(0.2)(code))
    model = tf_relax.RelaxModel(inputs, outputs)
    options = {"jit_compile": False, **options}
    optimizer = keras.optimizers.SGD(learning_rate)
    model.compile(optimizer, loss="mse", estimator=estimator, **options)
    return model


@pytest.mark.parametrize(
    "options", [{}, {"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 4}]
)
def test_training_does_not_notice(options):
    callback = GradientVariance(X[:8], X[:8], frequency=2)
    plain, observed = compiled("nvil", **options), compiled("nvil", **options)
    fit = {"epochs": 2, "batch_size": 4, "verbose": 0, "shuffle": False}
    plain.fit(X, X, **fit)
    history = observed.fit(X, X, callbacks=[callback], **fit).history
    assert set(history) == KEYS | {"loss"}
    found = [[*m.variables, *m.estimator_state.variables] for m in (plain, observed)]
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


def test_value_is_the_variance():
    """Nothing trains, so many measurements of an epoch are draws from one distribution."""
    model = compiled("reinforce", learning_rate=0.0)
    callback = GradientVariance(X[:4], X[:4], frequency=1)
    history = model.fit(
        X, X, batch_size=1, epochs=20, callbacks=[callback], verbose=0, shuffle=False
    ).history
    draw = tf.function(lambda: model.differentiate(X[:4], X[:4]).logit_gradients[0])
    draws = np.stack([draw() for _ in range(600)])
    variance = draws.var(axis=0, ddof=1)
    assert np.mean(history["code_gradient_variance"]) == pytest.approx(variance.mean(), rel=0.2)
    snr = np.sqrt((draws.mean(axis=0) ** 2 - variance / len(draws)).sum() / variance.sum())
    assert np.mean(history["code_gradient_snr"]) == pytest.approx(snr, abs=0.1)


def test_appears_wherever_people_look(tmp_path, capsys):
    log = tmp_path / "log.csv"
    callbacks = [
        GradientVariance(X[:8], X[:8]),
        keras.callbacks.CSVLogger(log),
        keras.callbacks.TensorBoard(tmp_path / "board"),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "{code_gradient_variance:.3f}.keras",
            monitor="code_gradient_variance",
            mode="min",
        ),
    ]
    compiled("reinforce").fit(X, X, epochs=2, callbacks=callbacks, verbose=2)
    assert "code_gradient_snr: " in capsys.readouterr().out
    with log.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert set(rows[0]) >= KEYS
    assert len(list(tmp_path.glob("*.keras"))) >= 1
    events = b"".join(p.read_bytes() for p in (tmp_path / "board").rglob("events*"))
    assert b"epoch_code_gradient_variance" in events


def test_a_second_fit_measures_anew():
    model, callback = compiled("reinforce"), GradientVariance(X[:8], X[:8])
    for _ in range(2):
        history = model.fit(X, X, callbacks=[callback], verbose=0).history
        assert np.isfinite(history["code_gradient_variance"]).all()


def test_bad_input():
    with pytest.raises(ValueError, match="`frequency` must be at least 1"):
        GradientVariance(X, X, frequency=0)
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    plain.compile("sgd", "mse")
    with pytest.raises(TypeError, match="RelaxModel"):
        plain.fit(X, X, callbacks=[GradientVariance(X, X)], verbose=0)
