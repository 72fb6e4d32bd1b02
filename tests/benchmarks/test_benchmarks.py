"""The benchmarks run, small; their figures are for people to read."""

import pathlib
import sys

import numpy as np
import pytest

import binary_vae

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

pytestmark = pytest.mark.slow


def test_step_cost():
    import step_cost

    ratios = step_cost.main(["--steps", "10", "--rounds", "1"])
    assert all(np.isfinite(ratio) and ratio > 0 for ratio in ratios.values())


def test_gradient_variance(tmp_path):
    import gradient_variance

    binary_vae.main(["--steps", "100", "--samples", "2", "--output", str(tmp_path)])
    variances = gradient_variance.main(
        [
            str(tmp_path / "digits_linear1_relax.keras"),
            "--dataset=digits",
            "--images=20",
            "--draws=50",
        ]
    )
    assert variances["relax, coupled"] < variances["leave-one-out, 2 samples"]
