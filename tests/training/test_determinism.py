"""`tf.config.experimental.enable_op_determinism`: the same training twice."""

import pathlib
import subprocess
import sys

import pytest

from tests.training.deterministic import LAYERS


@pytest.mark.slow
def test_two_runs_are_equal_bit_by_bit():
    run = subprocess.run(
        [sys.executable, "-m", "tests.training.deterministic"],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    expected = [f"{name}: equal" for name in [*LAYERS, "bits under XLA"]]
    assert run.stdout.splitlines() == expected
