"""A Keras model of the user's as a surrogate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.surrogates.surrogate import Surrogate, check_sources


@keras.saving.register_keras_serializable(package="tf_relax")
class KerasModel(Surrogate):
    r"""Any Keras model plus a free intercept.

    $$c(z) = \mathrm{model}(z, \ldots) + \beta$$

    Args:
        model: maps `z`, `[batch, *event]`, or a list of `z` and whatever `looks_at` names, in that
            order, to one value per example, `[batch]` or `[batch, 1]`.
        looks_at: what the model is given besides `z`: any of `"logits"`, `"context"` and
            `"targets"`. `None` takes as many of them, in that order, as the model has inputs left.

    Raises:
        ValueError: for other names, if the model has another number of inputs, or (from the step)
            if it does not return one value per example.

    Example:

    >>> import keras, tf_relax
    >>> z, logits = keras.Input((3,)), keras.Input((3,))
    >>> hidden = keras.layers.Dense(8, "tanh")(keras.layers.Concatenate()([z, logits]))
    >>> critic = keras.Model([z, logits], keras.layers.Dense(1)(hidden))
    >>> surrogate = KerasModel(critic)
    >>> surrogate.looks_at
    ('logits',)
    >>> estimator = tf_relax.estimators.Relax(surrogate=surrogate)
    """

    def __init__(
        self,
        model: keras.Model,
        looks_at: Sequence[str] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        inputs = getattr(model, "inputs", None)
        count = None if inputs is None else len(inputs)
        if looks_at is None:
            looks_at = ("logits", "context", "targets")[: 0 if count is None else count - 1]
        self.looks_at = check_sources(f"KerasModel '{model.name}'", looks_at)
        if count is not None and count != 1 + len(self.looks_at):
            raise ValueError(
                f"The surrogate '{model.name}' has {count} inputs, and is given "
                f"{1 + len(self.looks_at)} tensors: z and {list(self.looks_at)}."
            )
        self.model = model

    def build(
        self,
        z_shape: Any,
        logits_shape: Any = None,
        context_shape: Any = None,
        targets_shape: Any = None,
    ) -> None:
        self.intercept = self.add_weight(shape=(), initializer="zeros", name="intercept")
        shapes = {"logits": logits_shape, "context": context_shape, "targets": targets_shape}
        if not self.model.built:
            for name in self.looks_at:
                if shapes[name] is None:
                    raise ValueError(
                        f"The surrogate '{self.model.name}' looks at the {name}, whose shape is "
                        "not known here: call the stochastic layer with `context=`, and for the "
                        "targets give the surrogate as a functional model, with an Input for each."
                    )
            others = [tuple(shapes[name]) for name in self.looks_at]
            self.model.build([tuple(z_shape), *others] if others else tuple(z_shape))

    def call(
        self,
        z: tf.Tensor,
        logits: tf.Tensor | None = None,
        context: tf.Tensor | None = None,
        targets: tf.Tensor | None = None,
    ) -> tf.Tensor:
        given = {"logits": logits, "context": context, "targets": targets}
        for name in self.looks_at:
            if given[name] is None:
                raise ValueError(
                    f"The surrogate '{self.model.name}' looks at the {name}, and there is none. "
                    "Call the stochastic layer with `context=...`, or change `looks_at`."
                )
        others = [given[name] for name in self.looks_at]
        value = tf.convert_to_tensor(self.model([z, *others] if others else z))
        if value.shape.rank == 2 and value.shape[-1] == 1:
            value = value[:, 0]
        if value.shape.rank != 1:
            raise ValueError(
                f"The surrogate '{self.model.name}' has to return one value per example, [batch] "
                f"or [batch, 1]. It returned shape {value.shape}."
            )
        return tf.cast(value, z.dtype) + self.intercept.value

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "looks_at": list(self.looks_at),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> KerasModel:
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})
