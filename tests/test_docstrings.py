"""Examples in docstrings run, and every public name has a docstring."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import tf_relax

MODULES = [m.name for m in pkgutil.walk_packages(tf_relax.__path__, "tf_relax.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.failed == 0


PACKAGES = [
    "",
    "_audit",
    "callbacks",
    "estimators",
    "layers",
    "losses",
    "metrics",
    "rl",
    "surrogates",
]


@pytest.mark.parametrize("package", PACKAGES)
def test_public_classes_and_functions_show_an_example(package):
    module = importlib.import_module(f"tf_relax.{package}".rstrip("."))
    abstract = {
        "Estimator",
        "State",
        "Estimate",
        "Pass",
        "Passes",
        "Surrogate",
        "Stochastic",
        "Discrete",
    }
    abstract |= {"PolicyEstimator"}
    results = {"Report", "Row"}
    helpers = {"names", "serialize", "deserialize"}
    # Of the estimators.
    helpers |= {"is_surrogate_variable", "mark_surrogate_variables", "Stein"}
    for name in set(module.__all__) - abstract - results - helpers:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert ">>>" in (value.__doc__ or "") or "```python" in value.__doc__, name
