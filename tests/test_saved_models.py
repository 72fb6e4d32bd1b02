"""The exported models that lie in the repository still serve."""

import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "saved_models"
MODELS = sorted(path.parent for path in FOLDER.glob("*/saved_model.pb"))

# A new process that knows nothing of tf_relax: a SavedModel needs TensorFlow alone.
SERVE = """
import sys
import numpy as np, tensorflow as tf
from sklearn.datasets import load_digits
images = np.float32(load_digits().data[:200] / 16 > 0.5)
served = tf.saved_model.load(sys.argv[1])
logits = served.serve(images).numpy()
assert logits.shape == images.shape
nll = np.sum(np.logaddexp(0, logits) - images * logits, axis=1).mean()
mean = np.clip(images.mean(axis=0), 1e-3, 1 - 1e-3)
guess = -np.sum(images * np.log(mean) + (1 - images) * np.log1p(-mean), axis=1).mean()
assert nll < 0.85 * guess, (nll, guess)
seeds = np.arange(len(images))
drawn, again = served.seeded(images, seeds), served.seeded(images[::-1], seeds[::-1])
assert np.allclose(drawn, again[::-1], atol=1e-4)
assert served.mode(images).shape == images.shape
(p,) = served.probabilities(images).values()
assert p.shape == (200, 200) and np.all((p >= 0) & (p <= 1))
assert "tf_relax" not in sys.modules
"""


def test_there_are_models():
    assert MODELS


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_serves_reconstructions(path):
    subprocess.run([sys.executable, "-c", SERVE, str(path)], check=True)
