"""A part of the tests per run, where all of them would take too long for every change.

`--part 2/5` runs the second fifth of the tests, and in every part those below. Variants of one test
fall into different parts, so that each sees a little of everything.
"""

import zlib

import pytest

# What everything else rests on: proofs on the smallest models, the package as users find it.
ALWAYS = (
    "estimators/test_unbiased.py",
    "networks/test_networks.py",
    "test_imports.py",
    "test_public_classes.py",
    "test_smoke.py",
    "training/test_auto.py",
)


def parsed(text: str) -> tuple[int, int]:
    """Returns the number of a part, from 1, and of how many.

    Raises:
        pytest.UsageError: for anything but K/N with 1 <= K <= N.
    """
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise pytest.UsageError(f"--part takes K/N with 1 <= K <= N. Received: {text}")
    return int(part), int(parts)


def belongs(name: str, part: int, parts: int) -> bool:
    """Returns whether a test, `file::name[variant]`, is run with a part."""
    return name.startswith(ALWAYS) or zlib.crc32(name.encode()) % parts == part - 1
