"""The endurance benchmark, in small."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import endurance


def test_hard_settings_together(tmp_path, capsys):
    """Logits beyond 80, a rate too large, pixels that never change, no temperature."""
    log = tmp_path / "log.jsonl"
    arguments = ["--steps", "300", "--settings", "all at once", "--log", str(log)]
    (result,) = endurance.main(arguments)
    assert result["broke"] is None
    assert result["steps"] == 300
    assert np.isfinite(result["loss"])
    assert endurance.main(arguments) == [result]  # from the log
    assert capsys.readouterr().out.count("300 steps, loss") == 2


def test_threads_predict_while_one_trains():
    (result,) = endurance.main(["--steps", "0", "--seconds", "1"])
    assert result["errors"] == []
    assert result["epochs"] >= 1
    assert len(result["calls"]) == 8
    assert min(result["calls"]) >= 1


@pytest.mark.slow
def test_what_is_not_finite_is_seen(monkeypatch):
    wild = endurance.Setting(rate=float("inf"))
    monkeypatch.setitem(endurance.SETTINGS, "wild", wild)
    result = endurance.endure("wild", 1000)
    assert "steps" in result["broke"]
    assert result["steps"] < 1000
    assert "NOT FINITE" in endurance.described(result)


@pytest.mark.slow
@pytest.mark.parametrize("name", endurance.SETTINGS)
def test_every_setting(name):
    (result,) = endurance.main(["--steps", "2000", "--settings", name])
    assert result["broke"] is None


@pytest.mark.slow
def test_memory_stays_flat():
    (result,) = endurance.main(["--steps", "0", "--rounds", "60"])
    assert result["last"] < 1.15 * result["first"]
