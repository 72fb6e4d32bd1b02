"""Training ends where float32 does, under every policy."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import precision


def test_mixed_float16_ends_where_float32_does():
    """With a scale on the loss, which both optimizers take off again."""
    plain, mixed = (precision.train(p, jit=False, epochs=60) for p in ("float32", "mixed_float16"))
    assert plain.scale == 1
    assert mixed.scale == 2**15
    assert mixed.objective == pytest.approx(plain.objective, rel=0.01)


@pytest.mark.slow
def test_every_policy_with_and_without_xla(capsys):
    runs = precision.main([])
    assert [(run.policy, run.jit) for run in runs] == [
        (policy, jit) for jit in (False, True) for policy in precision.POLICIES
    ]
    for run in runs:
        assert run.objective == pytest.approx(runs[0].objective, rel=0.01), run
    assert f"{runs[1].objective:.4f}" in capsys.readouterr().out
