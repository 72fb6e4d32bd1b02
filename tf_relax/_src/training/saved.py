"""How a RelaxModel is saved, and what of its training goes on after it was loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.compat import (
    Checkpointed,
    global_seed_state,
    leaves_config_to_keras,
    saving_to_legacy_hdf5,
)
from tf_relax._src.whole_files import WholeFiles, check_store

_SEEDS, _GLOBAL_SEED, _METRIC = "tf_relax_seeds", "tf_relax_global_seed", "tf_relax_metric_"


class Saved(WholeFiles, Checkpointed):
    """The part of a `RelaxModel` that files and checkpoints talk to.

    Keras saves the weights, what layers and optimizers keep, and what `estimator_state` holds. With
    them go the states of all seed generators, those of `Dropout` among them; of a compiled model
    also that of the global generator and the metrics. So training that goes on from a file does
    so bit by bit.
    """

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        if str(filepath).endswith((".h5", ".hdf5")):  # before Keras opens the file
            raise self._no_place_in_hdf5()
        super().save(filepath, *args, **kwargs)

    @leaves_config_to_keras
    def get_config(self) -> dict[str, Any]:
        if saving_to_legacy_hdf5():  # by `keras.saving.save_model`
            raise self._no_place_in_hdf5()
        return super().get_config()

    def _no_place_in_hdf5(self) -> ValueError:
        return ValueError(
            f"RelaxModel '{self.name}' cannot be saved to a legacy HDF5 file, which has no place "
            "for its estimator. Use `model.save('model.keras')`, or for the weights alone "
            "`model.save_weights('model.weights.h5')`."
        )

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        seeds = [np.asarray(seed) for seed in _seeds(self)]
        if seeds:
            store[_SEEDS] = np.stack(seeds)
        if not self.compiled:
            return
        generator = global_seed_state()
        if generator is not None:
            store[_GLOBAL_SEED] = np.asarray(generator)
        for k, variable in enumerate(self.metrics_variables):
            store[f"{_METRIC}{k}"] = np.asarray(variable)

    def load_own_variables(self, store: Any) -> None:
        check_store(store)
        progress = {key: store[key] for key in store.keys() if key.startswith("tf_relax_")}
        super().load_own_variables({k: store[k] for k in store.keys() if k not in progress})
        _assign(_seeds(self), list(progress.get(_SEEDS, [])))
        if not self.compiled:
            return
        generator = global_seed_state()
        if generator is not None and _GLOBAL_SEED in progress:
            generator.assign(progress[_GLOBAL_SEED])
        count = sum(key.startswith(_METRIC) for key in progress)
        _assign(self.metrics_variables, [progress[f"{_METRIC}{k}"] for k in range(count)])

    def restorer(self) -> Callable[[], None]:
        variables = [*self.variables, *_progress(self), *self.metrics_variables]
        if self.compiled and self.optimizer is not None:
            variables += self.optimizer.variables
        values = [tf.identity(variable.value) for variable in variables]

        def restore() -> None:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

        return restore

    def also_checkpointed(self) -> dict[str, list[keras.Variable]]:
        optimizer = self.optimizer if self.compiled else None
        if optimizer is not None and not optimizer.built:
            # What is not there yet would be passed over when a checkpoint is restored.
            with self.distribute_strategy.scope():
                optimizer.build(self.trained_variables)
        # Metrics come apart: those of a model that has not trained yet have no variables.
        return {"progress": _progress(self), "metrics": list(self.metrics_variables)}


def _seeds(model: Any) -> list[keras.Variable]:
    """Returns the states of the seed generators of a model, which Keras saves nowhere."""
    weights = {id(variable) for variable in [*model.weights, *model.metrics_variables]}
    return [variable for variable in model.variables if id(variable) not in weights]


def _progress(model: Any) -> list[keras.Variable]:
    """Returns all that training changes besides weights, optimizers and metrics."""
    variables = _seeds(model)
    if model.compiled:
        state, generator = model.estimator_state, global_seed_state()
        variables += [] if state is None else state.variables
        variables += [] if generator is None else [generator]
    return variables


def _assign(variables: list[keras.Variable], values: list[Any]) -> None:
    """Assigns saved values, but those of a model that has other variables: it starts anew."""
    if [v.shape for v in variables] == [np.shape(value) for value in values]:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
