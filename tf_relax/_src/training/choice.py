"""What a model is, as the choice of its estimator asks for it."""

from __future__ import annotations

import logging
from typing import Any

import tensorflow as tf

from tf_relax._src.compat import number_of_calls, sublayers
from tf_relax._src.estimators import Auto, Estimator
from tf_relax._src.estimators.auto import Facts
from tf_relax._src.layers import Stochastic
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.relaxations.capabilities import num_outcomes
from tf_relax._src.training.compiled_model import CompiledModel
from tf_relax._src.training.objective import mixes_examples

_log = logging.getLogger("tf_relax")


def choose(
    model: CompiledModel,
    estimator: Estimator,
    loss: Any,
    importance_samples: int | None,
    batch_coupled: bool | None,
) -> Estimator:
    """Returns an estimator as it is, or what `Auto` chooses once the model is built.

    Args:
        model: to be compiled, or compiled.
        estimator: that the user asks for.
        loss: that the model is compiled with.
        importance_samples: of the objective, or `None`.
        batch_coupled: whether examples depend on each other's samples, where the user says so.
    """
    if not isinstance(estimator, Auto) or not is_ready(model):
        return estimator
    chosen = estimator.chosen_for(facts(model, loss, importance_samples, batch_coupled))
    _log.info("RelaxModel '%s' trains with %s: %s.", model.name, chosen, chosen.reason)
    return chosen


def is_ready(model: CompiledModel) -> bool:
    """Returns whether all is known that the choice of an estimator depends on."""
    layers = model.stochastic_layers
    return model.built and bool(layers) and all(layer.built for layer in layers)


def facts(
    model: CompiledModel, loss: Any, importance_samples: int | None, batch_coupled: bool | None
) -> Facts:
    """Returns what a built model and its objective are; the arguments are those of `choose`."""
    if batch_coupled is None:
        batch_coupled = mixes_examples(loss) or _keeps_statistics(model)
    return Facts(
        layers=model.stochastic_layers,
        relaxable=Relaxable.of(loss),
        importance_samples=importance_samples,
        num_outcomes=_num_outcomes(model),
        deterministic=Relaxable.of(loss) is Relaxable.ALL and not _draws_elsewhere(model),
        separate_examples=not batch_coupled,
    )


def _num_outcomes(model: CompiledModel) -> int | None:
    """Returns the number of joint outcomes, where it is certain that every layer is called once."""
    count = 1
    for layer in model.stochastic_layers:
        if layer not in model.layers or number_of_calls(layer) != 1:
            return None
        outcomes = num_outcomes(layer.relaxation, tf.TensorShape(layer.shapes.logits[1:]))
        if outcomes is None:
            return None
        count *= outcomes
    return count


def _draws_elsewhere(model: CompiledModel) -> bool:
    """Returns whether anything but the stochastic layers has a seed."""
    known = {id(variable) for variable in [*model.weights, *model.metrics_variables]}
    known |= {id(layer.seed_generator.state) for layer in model.stochastic_layers}
    return any(id(variable) not in known for variable in model.variables)


def _keeps_statistics(model: CompiledModel) -> bool:
    """Returns whether there are weights that no gradient trains, as those of batch norm are."""
    others = [layer for layer in sublayers(model) if isinstance(layer, Stochastic)]
    others += [layer for layer in sublayers(model) if not layer.trainable]  # frozen, they stay
    known = {id(weight) for layer in others for weight in layer.weights}
    return any(not weight.trainable for weight in model.weights if id(weight) not in known)
