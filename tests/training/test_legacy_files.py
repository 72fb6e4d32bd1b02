"""Files of a format that Keras has given up."""

import keras
import numpy as np
import pytest

from tests.training.habits import Subclassed, compiled, fit, functional, sequential
from tf_relax import RelaxModel
from tf_relax._src import compat


@pytest.mark.parametrize("make", [functional, sequential, Subclassed])
def test_legacy_hdf5_is_refused_before_a_file_is_touched(make, tmp_path):
    model = compiled(make())
    fit(model)
    for name in ("model.h5", "model.hdf5"):
        path = tmp_path / name
        path.write_text("precious")
        with pytest.raises(ValueError, match=r"HDF5.*save\('model.keras'\).*weights.h5"):
            model.save(path)
        assert path.read_text() == "precious"
    if make is not Subclassed:  # Keras itself refuses those
        with pytest.raises(ValueError, match="HDF5"):
            keras.saving.save_model(model, tmp_path / "other.h5")
    model.save_weights(tmp_path / "model.weights.h5")
    weights = [*model.weights, *model.estimator_state.variables]
    before = [v.numpy() for v in weights]
    fit(model)
    model.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(before, weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    model.save(tmp_path / "model.keras")


class WithoutArguments(RelaxModel):
    def __init__(self):
        super().__init__()


def test_hook_leaves_config_to_keras():
    """A constructor that takes no name gets none."""
    assert "name" not in WithoutArguments().get_config()
    assert not compat.saving_to_legacy_hdf5()
