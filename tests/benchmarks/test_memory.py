"""The memory benchmark, in small."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import memory

from tf_relax._src import compat


@pytest.mark.slow
@pytest.mark.parametrize("what", ["relax", "fit --clear-session", "keras"])
def test_memory_after_few_and_after_more_rounds(what, capsys):
    ratio = memory.main(["--rounds", "1", "2", "--what", *what.split()])
    assert 0.5 < ratio < 1.3
    printed = capsys.readouterr().out
    assert "MB after 1 rounds" in printed
    assert f"ratio: {ratio:.2f}" in printed


@pytest.mark.slow
def test_forgetting_kernels_gives_back_what_fit_has_left():
    memory.fit_round(memory.DATA)
    compat.forget_kernels()
    start = memory.resident_megabytes()
    for _ in range(8):
        memory.fit_round(memory.DATA)
    grown = memory.resident_megabytes() - start
    compat.forget_kernels()
    left = memory.resident_megabytes() - start
    assert grown > 8
    assert left < grown / 2
