"""What every surrogate answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

# All of them exist before the sample does, so looking at them keeps an estimate unbiased.
SOURCES = ("logits", "context", "targets")


class Surrogate(keras.layers.Layer):
    r"""A control variate $c_\phi$ of a stochastic site.

    The value that an estimator uses is, with the first term where `uses_objective` holds,

    $$c(z) = \eta f(\mathrm{relax}(z, t)) + r(z)$$

    the objective at relaxed inputs, times the estimator's `scale` $\eta$, which needs the whole
    model and is therefore added by the estimator, and $r$, which this layer computes. Besides $z$,
    $r$ is given what it declares in `looks_at` and nothing else:

    - `"logits"`: the parameters of the distribution;
    - `"context"`: what the stochastic layer was called with, `layer(logits, context=...)`: model
      inputs, features, samples of earlier layers;
    - `"targets"`: the `y` of the training step.

    Attributes:
        uses_objective: whether the objective at relaxed inputs is part of the control variate.
        needs_objective: whether it is useless without it (a black-box objective has none).
        looks_at: names of what $r$ is given besides `z`.
    """

    uses_objective: bool = False
    needs_objective: bool = False
    looks_at: tuple[str, ...] = ("logits", "context")

    def call(
        self,
        z: tf.Tensor,
        logits: tf.Tensor | None = None,
        context: tf.Tensor | None = None,
        targets: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns $r(z)$, one value per example, `[batch]`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `call`.")

    def get_config(self) -> dict[str, Any]:
        # Overridden so that Keras does not record the arguments of the constructor by itself.
        return super().get_config()


def check_sources(owner: str, looks_at: Iterable[str]) -> tuple[str, ...]:
    """Returns `looks_at` as a tuple in which every name is known.

    Raises:
        ValueError: for names that are not in `SOURCES`.
    """
    looks_at = (looks_at,) if isinstance(looks_at, str) else tuple(looks_at)
    unknown = [name for name in looks_at if name not in SOURCES]
    if unknown:
        raise ValueError(
            f"{owner} cannot look at {unknown}. Besides z it may look at {SOURCES}, which exist "
            "before the sample does: a surrogate that sees the sample, or anything that the sample "
            "causes (outputs, losses, later samples), makes the gradient biased."
        )
    return looks_at
