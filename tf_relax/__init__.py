"""Stochastic discrete layers for Keras whose gradients are unbiased, quiet and fast."""

from typing import Any as _Any

import keras as _keras

if _keras.backend.backend() != "tensorflow":
    raise ImportError(
        "tf_relax needs Keras on the TensorFlow backend, and Keras runs on "
        f"'{_keras.backend.backend()}'. Set the environment variable KERAS_BACKEND=tensorflow "
        "before anything imports keras."
    )

from tf_relax import (
    callbacks,
    estimators,
    layers,
    losses,
    metrics,
    relaxations,
    rules,
    sequences,
    sites,
    surrogates,
    training,
)
from tf_relax._src.audit import audit
from tf_relax._src.sites import record
from tf_relax._src.training import RelaxModel, RelaxOptimizer, for_inference
from tf_relax._src.version import __version__

__all__ = [
    "RelaxModel",
    "RelaxOptimizer",
    "__version__",
    "audit",
    "callbacks",
    "estimators",
    "for_inference",
    "layers",
    "losses",
    "metrics",
    "record",
    "relaxations",
    "rules",
    "sequences",
    "sites",
    "surrogates",
    "training",
]


def __getattr__(name: str) -> _Any:
    # `rl` needs Gymnasium, which only the extra of that name installs: imported when asked for.
    if name == "rl":
        import importlib

        return importlib.import_module("tf_relax.rl")
    raise AttributeError(f"module 'tf_relax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "rl"]
