"""Examples in docstrings run, and every public name has a docstring."""

import doctest
import importlib
import inspect
import pkgutil
import re

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
    "_src.audit",
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


FACES = ["callbacks", "estimators", "layers", "losses", "metrics", "rl", "surrogates"]
PUBLIC = [
    pytest.param(getattr(module, name), id=f"{face}.{name}")
    for face in FACES
    for module in [importlib.import_module(f"tf_relax.{face}")]
    for name in module.__all__
    # Bases and results have attributes; of a short function the sentence says what it takes.
    if "\n    Args:\n" in getattr(module, name).__doc__
]
# As for any Keras object.
KERAS = {"name", "dtype", "*args", "**kwargs"}


def documented(docstring):
    """Names under `Args:`, in their order."""
    section = re.search(r"^Args:\n((?:    .*\n|\n)+)", inspect.cleandoc(docstring) + "\n", re.M)
    return re.findall(r"^    (\**\w+): ", section[1], re.M) if section else []


@pytest.mark.parametrize("public", PUBLIC)
def test_arguments_are_documented_in_their_order(public):
    shown = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    arguments = [
        shown.get(parameter.kind, "") + name
        for name, parameter in inspect.signature(public).parameters.items()
    ]
    found = documented(public.__doc__)
    assert found == [name for name in arguments if name in found]  # of that order, and no others
    assert {*arguments} - {*found} <= KERAS


# What every stochastic layer can be told, in the order in which it is.
SHARED = ["output", "mask", "prior", "kl", "kl_weight", "inference", "seed", "check_numerics"]


@pytest.mark.parametrize("name", sorted(name for name in dir(tf_relax.layers) if "Re" in name[:2]))
def test_layers_take_what_they_share_last_and_in_one_order(name):
    signature = inspect.signature(getattr(tf_relax.layers, name)).parameters
    names = list(signature)[:-1]
    own = [argument for argument in names if argument not in SHARED]
    shared = [argument for argument in SHARED if argument in names]
    assert names == own + shared
    assert shared[-6:] == SHARED[-6:]
    assert list(signature)[-1] == "kwargs"
