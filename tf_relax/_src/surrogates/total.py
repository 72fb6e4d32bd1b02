"""Surrogates added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.surrogates.network import Network
from tf_relax._src.surrogates.objective import Objective
from tf_relax._src.surrogates.surrogate import SOURCES, Surrogate

# A small one: the objective says most, and on the flagship autoencoder networks of (50,) and of
# (400, 400) left the same variance.
_UNITS = (50,)


@keras.saving.register_keras_serializable(package="tf_relax")
class Sum(Surrogate):
    r"""The sum of surrogates; by default that of RELAX, the objective plus a network.

    $$c(z) = f(\mathrm{relax}(z, t)) + r_\rho(z)$$

    Grathwohl et al. (2018), section 3.2: the objective at relaxed inputs, and a network.

    Args:
        surrogates: what to add up. `None` is `[Objective(), Network(units=(50,))]`.

    Raises:
        ValueError: for what is no surrogate.

    Example:

    >>> surrogate = Sum([Objective(), Network(units=(50,))])
    >>> surrogate.uses_objective
    True
    """

    def __init__(
        self,
        surrogates: Sequence[Surrogate] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        if surrogates is None:
            policy = self.dtype_policy
            surrogates = [Objective(dtype=policy), Network(units=_UNITS, dtype=policy)]
        self.surrogates = list(surrogates)
        for surrogate in self.surrogates:
            if not isinstance(surrogate, Surrogate):
                raise ValueError(
                    f"Sum adds objects such as tf_relax.surrogates.Objective() and Network(), and "
                    f"KerasModel(model). Received: {surrogate!r}"
                )
        self.uses_objective = any(surrogate.uses_objective for surrogate in self.surrogates)
        self.needs_objective = all(surrogate.needs_objective for surrogate in self.surrogates)
        wanted = {name for surrogate in self.surrogates for name in surrogate.looks_at}
        self.looks_at = tuple(name for name in SOURCES if name in wanted)

    def build(
        self,
        z_shape: Any,
        logits_shape: Any = None,
        context_shape: Any = None,
        targets_shape: Any = None,
    ) -> None:
        for surrogate in self.surrogates:
            if not surrogate.built:  # a loader builds inner layers first
                surrogate.build(z_shape, logits_shape, context_shape, targets_shape)

    def call(
        self,
        z: tf.Tensor,
        logits: tf.Tensor | None = None,
        context: tf.Tensor | None = None,
        targets: tf.Tensor | None = None,
    ) -> tf.Tensor:
        given = {"logits": logits, "context": context, "targets": targets}
        return tf.add_n(
            [term(z, **{name: given[name] for name in term.looks_at}) for term in self.surrogates]
        )

    def get_config(self) -> dict[str, Any]:
        surrogates = [keras.saving.serialize_keras_object(s) for s in self.surrogates]
        return {**super().get_config(), "surrogates": surrogates}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Sum:
        surrogates = [keras.saving.deserialize_keras_object(s) for s in config["surrogates"]]
        return cls(**{**config, "surrogates": surrogates})
