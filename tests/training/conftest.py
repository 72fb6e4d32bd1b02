"""A batch for models of three inputs and two outputs."""

import pytest


@pytest.fixture
def x(rng):
    return rng.normal(size=(5, 3)).astype("float32")


@pytest.fixture
def y(rng):
    return rng.normal(size=(5, 2)).astype("float32")
