"""The comparison of policy gradients at fixed policies, in small."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import policy_gradient_variance as benchmark


@pytest.mark.slow
@pytest.mark.parametrize("kind", benchmark.KINDS)
def test_every_contestant_is_measured_at_every_policy(kind, capsys):
    arguments = ["--seeds=1", "--updates=2", "--every=1", "--episodes=6", "--batch=2", "--fit=1"]
    measured = benchmark.main([*arguments, "--no-jit", f"--policy={kind}"])
    assert {len(values) for values in measured.values()} == {2}
    assert np.isfinite(list(measured.values())).all()
    printed = capsys.readouterr().out
    for name, values in measured.items():
        (row,) = [line for line in printed.splitlines() if line.startswith(f"{name:24s} ")]
        assert f"{np.mean(values):.2f}" in row
    # Those who watch have learned something of their own, too.
    assert len({tuple(values) for values in measured.values()}) == len(measured)
