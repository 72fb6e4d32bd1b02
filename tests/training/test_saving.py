"""RelaxModel saved, loaded and exported, here and in a new process."""

import json
import pathlib
import subprocess
import sys
import traceback

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models import relax
from tests.training.models import (
    STYLES,
    X,
    assert_same,
    compile_model,
    fit,
    functional,
    held,
    numpy,
    styles,
    with_surrogate,
)
from tf_relax import RelaxModel, RelaxOptimizer, estimators
from tf_relax.layers import RelaxBernoulli
from tf_relax.losses import BernoulliNLL
from tf_relax.surrogates import Network


def pair():
    return RelaxOptimizer(keras.optimizers.Adam(0.05), keras.optimizers.RMSprop(0.01))


def configure(model):
    model.compile(
        pair(),
        BernoulliNLL(),
        metrics=["mae"],
        estimator=relax(coupled=False),
        batch_coupled=False,
        run_eagerly=True,
    )
    return model


def describe(model):
    """What has to survive saving, except for arrays."""
    return {
        "class": type(model).__name__,
        "registered": keras.saving.get_registered_name(type(model)),
        "estimator": repr(model.estimator),
        "batch_coupled": model.batch_coupled,
        "optimizer": model.optimizer.get_config(),
        "loss": model.loss.name,
        "run_eagerly": model.run_eagerly,
        "relax_model": isinstance(model, RelaxModel),
        "sequential": isinstance(model, keras.Sequential),
        "layers": [type(layer).__name__ for layer in model.layers],
        "variables": [v.name for v in [*model.variables, *model.estimator_state.variables]],
    }


def arrays(model):
    seeds = [layer.seed_generator.state for layer in model.stochastic_layers]
    values = numpy([*held(model), *model.optimizer.variables, *seeds])
    return {str(k): value for k, value in enumerate(values)}


def as_json(value):
    return json.loads(json.dumps(value, default=str))


def resume(folder):
    """Runs in another process: loads every style, describes it and trains it on."""
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix == ".keras":
                model = keras.saving.load_model(path)
                np.savez(path.with_suffix(".loaded.npz"), **arrays(model))
                description = json.dumps(describe(model), default=str)
                path.with_suffix(".loaded.json").write_text(description)
                fit(model, epochs=2)
                np.savez(path.with_suffix(".resumed.npz"), **arrays(model))
            else:
                loaded = tf.saved_model.load(str(path))
                draws = [np.asarray(loaded.serve(tf.constant(SERVED))) for _ in range(2)]
                np.savez(path.with_suffix(".served.npz"), first=draws[0], second=draws[1])
        except Exception:  # one style must not take the others with it
            print(path.name, traceback.format_exc(), file=sys.stderr)


# Enough examples for two draws to differ for certain: fair samples agree once in 2^128 times.
SERVED = np.zeros((64, 3), "float32")
SAVED = ("functional", "sequential", "subclassed", "builds_itself")
EXPORTED = ("functional", "subclassed")


@pytest.fixture(scope="module")
def other_process(tmp_path_factory):
    """Models of every style, saved here after some training, and what another process made of it.

    All of them share one process, which takes several seconds to start.
    """
    folder = tmp_path_factory.mktemp("models")
    expected = {}
    failures = {}
    for style in SAVED:
        keras.utils.set_random_seed(1)
        try:
            model = configure(STYLES[style]())
            fit(model)
            model.save(folder / f"{style}.keras")
            if style in EXPORTED:
                model.export(folder / f"{style}.saved_model", verbose=False)
            saved = describe(model), arrays(model)
            fit(model, epochs=2)
            expected[style] = *saved, arrays(model)
        except Exception as error:  # one style must not take the others with it
            failures[style] = error
            (folder / f"{style}.keras").unlink(missing_ok=True)
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.training.test_saving", str(folder)],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    return folder, expected, failures, child


def outcome(other_process, style):
    folder, expected, failures, child = other_process
    if style in failures:
        raise failures[style]
    return folder, expected[style], child


@pytest.mark.parametrize("style", SAVED)
def test_a_saved_model_goes_on_in_a_new_process_as_here(other_process, style):
    folder, (description, saved, resumed), child = outcome(other_process, style)
    assert (folder / f"{style}.resumed.npz").exists(), child.stderr[-3000:]
    loaded = json.loads((folder / f"{style}.loaded.json").read_text())
    assert loaded == as_json(description)
    for kind, arrays_here in (("loaded", saved), ("resumed", resumed)):
        with np.load(folder / f"{style}.{kind}.npz") as there:
            assert set(there) == set(arrays_here)
            for key, value in arrays_here.items():
                np.testing.assert_allclose(there[key], value, rtol=1e-6, err_msg=f"{kind} {key}")
    assert any((saved[key] != resumed[key]).any() for key in saved)


@pytest.mark.parametrize("style", EXPORTED)
def test_an_exported_model_serves_fresh_samples_in_a_new_process(other_process, style):
    folder, _, child = outcome(other_process, style)
    assert (folder / f"{style}.served.npz").exists(), child.stderr[-3000:]
    with np.load(folder / f"{style}.served.npz") as served:
        first, second = served["first"], served["second"]
    assert first.shape == second.shape == (64, 3)
    assert np.isfinite(first).all()
    assert (first != second).any()
    assert len(np.unique(first, axis=0)) <= 4  # two units have four codes


@styles
def test_every_style_is_saved_and_loaded_in_one_process(style, tmp_path):
    model = configure(STYLES[style]())
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert as_json(describe(loaded)) == as_json(describe(model))
    fit(model)
    fit(loaded)
    for key, value in arrays(model).items():
        np.testing.assert_array_equal(arrays(loaded)[key], value)
    assert RelaxModel.__mro__[-len(keras.Model.__mro__) :] == keras.Model.__mro__


@pytest.mark.parametrize(
    "estimator",
    [
        estimators.Vimco(),
        estimators.Rodeo(num_samples=3),
        estimators.DoubleCV(num_samples=3),
        estimators.Nvil(decay=0.5),
        estimators.Relax(num_samples=2),
        estimators.Relax(num_samples=3, coupling="antithetic"),
        estimators.Relax(num_samples=2, num_conditional=3, coupled=False),
        estimators.Arms(num_samples=3),
        estimators.LeaveOneOut(num_samples=3),
        estimators.Reinforce(baseline="learned"),
        estimators.MuProp(),
        estimators.Exact(max_outcomes=4),
    ],
    ids=str,
)
def test_estimators_are_saved_with_all_that_they_learn(estimator, tmp_path):
    """Loaded, a model trains on exactly as the one that was saved."""
    samples = 3 if isinstance(estimator, estimators.Vimco) else None
    model = functional(seed=0)
    model.compile(
        pair(),
        BernoulliNLL(),
        estimator=with_surrogate(estimator, Network(units=(3,), name="network")),
        importance_samples=samples,
        run_eagerly=True,
    )
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.estimator) is type(estimator)
    assert repr(loaded.estimator) == repr(model.estimator)
    assert loaded.importance_samples == samples
    assert loaded.optimizer.built
    assert int(loaded.optimizer.iterations.numpy()) == 3
    names = [[(v.name, v.shape) for v in m.trained_variables] for m in (model, loaded)]
    assert names[0] == names[1]
    saved = arrays(model)
    assert arrays(loaded).keys() == saved.keys()
    for key, value in arrays(loaded).items():
        np.testing.assert_array_equal(value, saved[key])
    fit(model)
    fit(loaded)
    for key, value in arrays(model).items():
        np.testing.assert_array_equal(arrays(loaded)[key], value)
    moved = [key for key, value in arrays(loaded).items() if (value != saved[key]).any()]
    assert len(moved) >= len(model.trained_variables) - 1  # a baseline has no kernel for z = 0


def test_default_layers_are_saved(tmp_path):
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, RelaxBernoulli()(inputs))
    fit(compile_model(model, estimator="relax"))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    # As JSON: a file makes lists of the tuples in the shapes that inner layers were built with.
    loaded_config, config = (m.stochastic_layers[0].get_config() for m in (loaded, model))
    assert json.dumps(loaded_config) == json.dumps(config)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()


def test_an_uncompiled_model_is_saved(tmp_path):
    model = functional(inference="mode")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert not loaded.compiled


def test_a_mixed_precision_model_is_saved(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = compile_model(functional(seed=0))
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)
    fit(model)
    fit(loaded)
    assert_same(numpy(held(loaded)), numpy(held(model)))
    assert_same(numpy(loaded.optimizer.variables), numpy(model.optimizer.variables))


def test_export_serves_the_mode(tmp_path):
    model = functional(inference="mode")
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for size in (1, 10):
        np.testing.assert_allclose(
            loaded.serve(tf.constant(X[:size])), model.predict(X[:size], verbose=0), rtol=1e-5
        )


def test_names_given_to_the_compiler_are_resolved():
    for name in estimators.names():
        samples = 2 if name == "vimco" else None
        model = functional()
        compile_model(model, estimator=name, importance_samples=samples, run_eagerly=True)
        assert type(model.estimator) is type(estimators.get(name))
        again = estimators.deserialize(model.get_compile_config()["estimator"])
        assert repr(again) == repr(model.estimator)


if __name__ == "__main__":
    resume(pathlib.Path(sys.argv[1]))
