"""What a step changes besides the weights that it trains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from tf_relax._src.compat import global_seed_state
from tf_relax._src.training.compiled_model import CompiledModel


def moving_state(model: CompiledModel) -> list[keras.Variable]:
    """Returns seeds, batch statistics and baselines: all variables that no optimizer trains."""
    trainable = {id(variable) for variable in model.trained_variables}
    metrics = {id(variable) for variable in model.metrics_variables}
    learned = model.estimator_state.variables
    state = {id(v): v for v in [*model.variables, *learned, global_seed_state()]}
    return [v for key, v in state.items() if key not in trainable | metrics]


@contextlib.contextmanager
def unchanged(variables: list[keras.Variable]) -> Iterator[None]:
    """Gives variables their values back at the end of a `with` block, in graphs as well."""
    values = [tf.identity(variable.value) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
