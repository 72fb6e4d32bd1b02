"""An estimator at work on a compiled model."""

from __future__ import annotations

import dataclasses

from tf_relax._src import estimators
from tf_relax._src.estimators import Estimator
from tf_relax._src.losses import BlackBox
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.training.estimator_state import EstimatorState


@dataclasses.dataclass(frozen=True)
class Estimation:
    """An estimator at work, and what it has learned."""

    estimator: Estimator
    state: EstimatorState
    relaxable: Relaxable

    def is_for(self, estimator: Estimator, relaxable: Relaxable) -> bool:
        """Returns whether another estimator would learn the same."""
        same = estimators.serialize(self.estimator) == estimators.serialize(estimator)
        return same and self.relaxable is relaxable


def check_objective(
    estimator: Estimator, importance_samples: int | None, black_boxes: list[BlackBox]
) -> None:
    """Raises a ValueError if an estimator does not work with the objective of a model."""
    estimator.check_objective(importance_samples)
    if black_boxes and estimator.needs_differentiable_objective:
        raise ValueError(
            f"Estimator {estimator} differentiates the objective, and loss "
            f"'{black_boxes[0].name}' is a BlackBox. Use estimator='relax', whose surrogate "
            "network then stands alone, or 'reinforce'."
        )
