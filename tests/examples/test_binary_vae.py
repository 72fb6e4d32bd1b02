"""The main example, small: models, estimators, and its SavedModel served by a new process."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import binary_vae
import tf_relax

SMALL = ["--steps", "10", "--samples", "2", "--no-jit"]
SERVE = """
import sys
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
images = np.zeros((5, 64), "float32")
first, second = served.serve(images).numpy(), served.serve(images).numpy()
assert first.shape == (5, 64) and np.all(np.isfinite(first))
assert not np.array_equal(first, second), "every call draws fresh samples"
"""


@pytest.mark.parametrize("model", binary_vae.MODELS)
def test_models(model, tmp_path, capsys):
    results = binary_vae.main([*SMALL, "--model", model, "--output", str(tmp_path)])
    assert all(np.isfinite(value) for value in results.values())
    name = f"digits_{model}_relax"
    assert (tmp_path / f"{name}.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "training ELBO" in printed
    assert "validation bound, 2 samples" in printed
    loaded = keras.saving.load_model(tmp_path / f"{name}.keras")
    assert isinstance(loaded, tf_relax.RelaxModel)
    assert loaded.predict(np.zeros((2, 64)), verbose=0).shape == (2, 64)
    if model == "linear1":
        subprocess.run([sys.executable, "-c", SERVE, str(tmp_path / name)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["disarm", "concrete", "vimco --importance-samples=2"])
def test_estimators(estimator, tmp_path):
    arguments = ["--estimator", *estimator.split(), "--output", str(tmp_path)]
    results = binary_vae.main([*SMALL, *arguments])
    assert all(np.isfinite(value) for value in results.values())


@pytest.mark.slow
def test_digits_learn(tmp_path):
    results = binary_vae.main(["--steps", "3000", "--output", str(tmp_path)])
    assert results["training ELBO"] > -27  # the mean image alone gives less than -29
    assert results["validation bound, 100 samples"] > results["validation ELBO"]
