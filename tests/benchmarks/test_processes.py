"""The benchmark of processes, in small."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import processes


def test_paper(capsys):
    processes.main(["--paper", "--estimators", "relax"])
    lines = capsys.readouterr().out.splitlines()
    weights, learned, *sent = lines[1].split()[:5]
    # A ring of 8: seven eighths of everything, in float32, sent and received.
    assert float(sent[0]) == pytest.approx(7 * (int(weights) + int(learned)) / 1e6, abs=0.05)
    assert len(lines) == 3


@pytest.mark.slow
def test_two_processes(capsys):
    found = processes.main(["--steps", "3", "--rounds", "1", "--estimators", "relax"])
    assert found["relax"][1] == 1
    assert found["relax"][2] > 0
    assert len(capsys.readouterr().out.splitlines()) == 3
