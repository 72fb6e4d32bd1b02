"""Discrete units with a prior of their own kind."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax.layers.mask import where_counted
from tf_relax.layers.prior import ANALYTIC, SAMPLED
from tf_relax.layers.stochastic import Stochastic, add_per_example_loss
from tf_relax.relaxations import Draw, Items
from tf_relax.relaxations.event import sum_event
from tf_relax.relaxations.impossible import IMPOSSIBLE


class Discrete(Stochastic):
    """Base of the layers of discrete samples: adds the divergence from a prior to the objective.

    Args:
        prior: `None`, `"uniform"`, `"learned"` or logits, of the same kind of distribution.
        kl: `"analytic"` or `"sampled"`; `None` is analytic where a formula is known.
        kl_weight: factor of the divergence, in the variable `kl_weight`.
        output: what the rest of the model sees, one of `outputs`.
        **kwargs: arguments of `Stochastic`.
    """

    # The values of `output` that a subclass knows; "index" is the one that cannot be relaxed.
    outputs: tuple[str, ...] = ()

    def __init__(
        self,
        prior: Any = None,
        kl: str | None = None,
        kl_weight: float = 1.0,
        output: str | None = None,
        **kwargs: Any,
    ):
        if output is not None and output not in self.outputs:
            raise ValueError(
                f"{type(self).__name__}: `output` must be one of {self.outputs}. "
                f"Received: {output!r}"
            )
        self.relaxable = output != "index"
        super().__init__(**kwargs)
        self.output_kind = output
        if kl not in (None, ANALYTIC, SAMPLED):
            raise ValueError(
                f"{self._label()}: `kl` must be '{ANALYTIC}' or '{SAMPLED}'. Received: {kl!r}"
            )
        if isinstance(prior, str) and prior not in ("uniform", "learned"):
            raise ValueError(
                f"{self._label()}: `prior` must be None, 'uniform', 'learned' or logits. "
                f"Received: {prior!r}"
            )
        if prior is not None and not isinstance(prior, str):
            prior = np.asarray(prior, dtype=self.noise_dtype)
            if not np.all(np.isfinite(prior)):
                raise ValueError(f"{self._label()}: the logits of the prior must be finite.")
        self.prior = prior
        self.kl = kl
        self.initial_kl_weight = self.kl_weight = kl_weight

    def build(self, logits_shape: Any, context_shape: Any = None) -> None:
        super().build(logits_shape, context_shape)
        self._check_broadcasts("prior", self.prior, logits_shape)
        if self.prior is None:
            return
        self.kl_weight = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self.initial_kl_weight),
            trainable=False,
            dtype=self.noise_dtype,
            autocast=False,
            name="kl_weight",
        )
        self._event_shape = tf.TensorShape(logits_shape[1:])
        if isinstance(self.prior, str) and self.prior == "learned":
            if None in logits_shape[1:]:
                raise ValueError(
                    f"{self._label()}: a learned prior needs logits of fixed size. Received shape "
                    f"{tuple(logits_shape)}: fix the size, or use prior='uniform'."
                )
            uniform = self.relaxation.uniform_logits(self._event_shape)
            self._prior_variable = self.add_weight(
                shape=logits_shape[1:],
                initializer=lambda shape, dtype: tf.constant(uniform, dtype),
                dtype=self.noise_dtype,
                autocast=False,
                name="prior_logits",
            )

    def _check_broadcasts(self, name: str, value: Any, logits_shape: Any) -> None:
        """Raises a ValueError if numbers per logit do not fit the event."""
        event = tuple(logits_shape[1:])
        shape = value.shape if isinstance(value, np.ndarray) else ()
        pairs = zip(reversed(shape), reversed(event), strict=False)
        if len(shape) > len(event) or any(k not in (1, n) and n is not None for k, n in pairs):
            raise ValueError(
                f"{self._label()}: `{name}` has the shape {shape}, which does not broadcast to "
                f"{event}, that of the logits of one example."
            )

    @property
    def prior_logits(self) -> tf.Tensor:
        """Logits of the prior, broadcastable to the event."""
        if self.prior is None:
            raise ValueError(f"{self._label()} has no prior: pass `prior='learned'`, for example.")
        if isinstance(self.prior, str):
            if self.prior == "uniform":
                fixed = self._event_shape.is_fully_defined()
                uniform = self.relaxation.uniform_logits(self._event_shape) if fixed else 0.0
                return tf.constant(uniform, self.noise_dtype)
            return tf.convert_to_tensor(self._prior_variable.value)
        return tf.constant(self.prior)

    def add_divergence(
        self,
        logits: tf.Tensor,
        output: tf.Tensor | None,
        draw: Draw | None,
        method: str | None,
        mask: tf.Tensor | None = None,
    ) -> None:
        if self.prior is None:
            return
        # A bound on the likelihood, which overrides the method, counts the divergence in full.
        weight = self.kl_weight if method is None else tf.ones((), logits.dtype)
        # Without a sample there is nothing to estimate from.
        method = ANALYTIC if output is None else method or self.kl or ANALYTIC
        prior = tf.broadcast_to(self.prior_logits, tf.shape(logits))
        if mask is not None and isinstance(self.relaxation, Items):
            # Items that are ruled out are so before anything is drawn, by the prior as well.
            prior = tf.where(mask, prior, tf.constant(IMPOSSIBLE, prior.dtype))
        divergence = self.relaxation.kl(logits, prior) if method == ANALYTIC else None
        if divergence is None:
            divergence = self._sampled_divergence(logits, prior, output, draw)
        add_per_example_loss(self, weight * sum_event(where_counted(mask, divergence)))

    def _sampled_divergence(
        self, logits: tf.Tensor, prior: tf.Tensor, output: tf.Tensor | None, draw: Draw | None
    ) -> tf.Tensor:
        relaxation = self.relaxation
        if draw is not None and (draw.trace is not None or not self.relaxable):
            return relaxation.log_prob(logits, draw) - relaxation.log_prob(prior, draw)
        if output is None or not self.relaxable:
            raise ValueError(
                f"{self._label()} has a prior whose divergence is estimated from a sample, and "
                "this call does not draw one: use inference='sample'."
            )
        # By way of the output, so that derivatives in it see the divergence as well.
        y = tf.cast(output, logits.dtype)
        q, p = relaxation.relaxed_log_prob(logits, y), relaxation.relaxed_log_prob(prior, y)
        return q - p

    def get_config(self) -> dict[str, Any]:
        prior = self.prior.tolist() if isinstance(self.prior, np.ndarray) else self.prior
        output = {"output": self.output_kind} if self.outputs else {}
        return {
            **super().get_config(),
            "prior": prior,
            "kl": self.kl,
            "kl_weight": self.initial_kl_weight,
            **output,
        }
