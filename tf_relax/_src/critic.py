"""``c(z, s)``: a surrogate that sees a state and what was chosen in it, relaxed."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src import rules, surrogates
from tf_relax._src.relaxations import Discrete, Draw
from tf_relax._src.surrogates import Surrogate


class Critic(keras.layers.Layer):
    r"""``c(z, s) = r(relax(z, t), s)`` with a temperature ``t`` that is learned as well.

    Args:
        relaxation: of what is chosen: actions, tokens.
        surrogate: ``r``, given the relaxed choice, the logits and, as its context, the state.
        temperature: where ``t`` starts; continuous choices have none.
    """

    def __init__(self, relaxation: Any, surrogate: Surrogate, temperature: float = 0.5):
        super().__init__(name="critic")
        self.relaxation = relaxation
        self.surrogate = surrogate
        self.log_temperature = None
        if isinstance(relaxation, Discrete):
            self.log_temperature = self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(float(tf.math.log(temperature))),
                name="log_temperature",
            )

    def build(self, logits_shape: Any, states_shape: Any) -> None:
        y_shape = tuple(self.relaxation.relaxed_shape(tf.TensorShape(logits_shape)))
        if not self.surrogate.built:
            self.surrogate.build(y_shape, tuple(logits_shape), tuple(states_shape))
            self.surrogate.built = True

    def call(self, z: tf.Tensor, logits: tf.Tensor, states: tf.Tensor) -> tf.Tensor:
        """Returns ``c(z, s)``, `[batch]`."""
        if self.log_temperature is None:
            return self.at(z, logits, states)
        temperature = tf.exp(self.log_temperature.value)
        return self.at(self.relaxation.relax(z, temperature), logits, states)

    def at(self, y: tf.Tensor, logits: tf.Tensor, states: tf.Tensor) -> tf.Tensor:
        """Returns ``r(y, s)`` at a point of the action space, relaxed or not, `[batch]`."""
        given = {"logits": logits, "context": states}
        looked_at = {name: given[name] for name in self.surrogate.looks_at}
        return self.surrogate(y, **looked_at)

    def value_and_derivative(
        self, z: tf.Tensor, logits: tf.Tensor, states: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns ``c(z, s)`` and ``dc/dz``."""
        return rules.value_and_derivative(lambda z: self(z, logits, states), z)

    def surprise(self, draw: Draw, logits: tf.Tensor, states: tf.Tensor) -> tf.Tensor:
        r"""Returns ``<dr/dy (E[b], s), b - E[b]>``, whose mean over actions is zero.

        The first-order part of what the action was worth, as in MuProp (Gu et al. 2016). Exact
        for surrogates that are linear in the action.
        """
        mean = self.relaxation.mean(logits)
        _, slope = rules.value_and_derivative(lambda y: self.at(y, logits, states), mean)
        return rules.first_order(slope, draw.b, mean)


def resolve(surrogate: Any, owner: str) -> Surrogate:
    """Returns the surrogate of actions that a user named, made or left out.

    Raises:
        ValueError: for a surrogate that cannot serve here.
    """
    if surrogate is None:
        surrogate = surrogates.Network(units=(64, 64), activation="tanh", looks_at=("context",))
    if isinstance(surrogate, keras.Model):
        surrogate = surrogates.KerasModel(surrogate, looks_at=("context",))
    surrogate = surrogates.get(surrogate)
    if surrogate.uses_objective or "targets" in surrogate.looks_at:
        raise ValueError(
            f"{owner}: the surrogate {type(surrogate).__name__} looks at the objective or at "
            "targets, and an environment offers neither. Use surrogates.Network(...) or a Keras "
            "model of [action, state]."
        )
    return surrogate
