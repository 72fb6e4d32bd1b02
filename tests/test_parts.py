"""Every test is in one of the parts that commits run, and some are in all."""

import pytest

from tests.parts import ALWAYS, belongs, parsed

NAMES = [f"layers/test_{k}.py::test[{k}]" for k in range(400)]


def test_parts_are_a_partition():
    parts = [{name for name in NAMES if belongs(name, part, 4)} for part in (1, 2, 3, 4)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(NAMES)
    assert all(70 < len(part) < 130 for part in parts)


def test_some_are_in_every_part():
    for file in ALWAYS:
        assert all(belongs(f"{file}::test", part, 4) for part in (1, 2, 3, 4))


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "-1/4"])
def test_no_such_part(text):
    with pytest.raises(pytest.UsageError, match="1 <= K <= N"):
        parsed(text)


def test_part_of_a_run():
    assert parsed("3/4") == (3, 4)
    assert all(belongs(name, *parsed("1/1")) for name in NAMES)
