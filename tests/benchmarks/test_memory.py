"""The memory benchmark, in small."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import memory


@pytest.mark.slow
@pytest.mark.parametrize("what", ["relax", "fit --clear-session", "keras"])
def test_memory_after_few_and_after_more_rounds(what, capsys):
    ratio = memory.main(["--rounds", "1", "2", "--what", *what.split()])
    assert 0.5 < ratio < 1.3
    printed = capsys.readouterr().out
    assert "MB after 1 rounds" in printed
    assert f"ratio: {ratio:.2f}" in printed
