"""Frames per second over processes, in small."""

import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import policy_gradient_processes as benchmark


@pytest.mark.slow
def test_every_number_of_processes_is_measured(capsys):
    arguments = ["--processes=2", "--environments=2", "--rounds=2", "--frames=64", "--n-steps=8"]
    speeds = benchmark.main([*arguments, "--milliseconds=1"])
    assert set(speeds) == {0, 2}
    assert all(speed > 0 for speed in speeds.values())
    assert speeds[0] < 1000  # two environments of a millisecond, one after the other
    assert re.search(r"\| 2 processes \| \d+ \|", capsys.readouterr().out)
