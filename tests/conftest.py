"""Seeds, and the global settings of Keras that a test may change.

The process that hands out tests to workers reads this as well and needs no TensorFlow: what does
imports it.
"""

import gc
import pathlib
import random

import numpy as np
import pytest

from tests import parts, variants

_SEED = pytest.StashKey()


def pytest_addoption(parser):
    group = parser.getgroup("tf_relax")
    group.addoption(
        "--vary-seed",
        action="store_true",
        help="seed the tests with a number that differs from run to run, instead of --seed",
    )
    group.addoption(
        "--seed",
        type=int,
        default=0,
        help="seed of every test (0), for example the one that a run with --vary-seed reported",
    )
    group.addoption(
        "--part", default="1/1", metavar="K/N", help="run the K-th of N parts of the tests"
    )


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        # A worker of pytest-xdist: the seed in the header is that of the process that started it.
        config.stash[_SEED] = config.workerinput["tf_relax_seed"]
    elif config.getoption("vary_seed"):
        config.stash[_SEED] = random.SystemRandom().randrange(2**31)
    else:
        config.stash[_SEED] = config.getoption("seed")
    # Tracing makes objects by the million and little garbage: looking for it every 700 objects
    # takes a tenth of the time of the tests.
    gc.set_threshold(100_000, 50, 50)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["tf_relax_seed"] = node.config.stash[_SEED]


def pytest_report_header(config):
    return f"tf_relax: every test is seeded with {config.stash[_SEED]} (--seed repeats it)"


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config, items):
    by_name = any("::" in argument for argument in config.args)
    tests = pathlib.Path(__file__).parent
    variants.mark(items, tests, whole_files=not by_name)
    part, of = parts.parsed(config.getoption("part"))
    names = {item: f"{item.path.relative_to(tests).as_posix()}::{item.name}" for item in items}
    left_out = [item for item in items if not parts.belongs(names[item], part, of)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if parts.belongs(names[item], part, of)]


@pytest.fixture
def seed(request):
    """The seed of this run."""
    return request.config.stash[_SEED]


@pytest.fixture
def rng(seed):
    """A generator of its own for every test."""
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def _seeded_and_restored(seed):
    """Makes a test independent of those before it, in whichever order they run."""
    import keras
    import tensorflow as tf

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.utils.set_random_seed(seed)
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
    # tf.map_fn sets a caching device, and forgets it where its function raises: strategies of later
    # tests would fail.
    tf.compat.v1.get_variable_scope()._caching_device = None


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Forgets the models of a file when the next one begins."""
    if nextitem is None or nextitem.path != item.path:
        import keras

        keras.backend.clear_session()  # collects what is garbage as well
        # What is left is TensorFlow itself: looking through it again and again would take longer
        # than the tests.
        gc.freeze()


@pytest.fixture
def float64():
    """Keras in float64: for proofs that are exact to rounding."""
    import keras

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
