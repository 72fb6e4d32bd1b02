"""What every version has saved is read by this one, and trains on."""

import pathlib

import keras
import numpy as np
import pytest

import tf_relax
from tests.golden.make import data, evaluated, numbers

FOLDER = pathlib.Path(__file__).parent
VERSIONS = sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and path.name[0] != "_")
versions = pytest.mark.parametrize("version", VERSIONS)


def loaded(version, name):
    """What was saved, and what was known of it."""
    with np.load(FOLDER / version / f"{name}.npz") as known:
        return keras.models.load_model(FOLDER / version / f"{name}.keras"), dict(known)


def check(made, known):
    before = numbers(made)
    found = {**before, **evaluated(made)}
    assert found.keys() == known.keys()
    for name, value in known.items():
        # Matrix products are not the same to the last bit on every machine.
        exact = name in before
        tolerance = {} if exact else {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(found[name], value, err_msg=name, **tolerance)


def test_this_version_is_among_them():
    assert tf_relax.__version__ in VERSIONS


@versions
def test_a_model(version):
    made, known = loaded(version, "model")
    check(made, known)
    x, y = data()
    before = numbers(made)
    history = made.fit({"inputs": x}, y, batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = numbers(made)
    moved = [name for name, value in before.items() if np.any(value != after[name])]
    assert len(moved) > len(before) / 2


@versions
def test_a_trainer(version):
    made, known = loaded(version, "trainer")
    check(made, known)
    frames = made.frames
    made.fit(20, seed=1, verbose=0)
    assert made.frames > frames >= 60
