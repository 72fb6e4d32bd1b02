"""Samples held against a prior of their own kind."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.layers.drawn import Drawn
from tf_relax._src.layers.mask import where_counted
from tf_relax._src.layers.stochastic import ANALYTIC, SAMPLED, Stochastic, add_per_example_loss
from tf_relax._src.numbers import is_finite_number
from tf_relax._src.relaxations import Items
from tf_relax._src.relaxations.event import sum_event
from tf_relax._src.relaxations.impossible import IMPOSSIBLE


class WithPrior(Stochastic):
    """Base of the layers that add the divergence from a prior to the objective.

    Args:
        prior: `None`, the name of the flat one, `"learned"` or logits, of the same kind of
            distribution, broadcast over the event.
        kl: `"analytic"` or `"sampled"`; `None` is analytic where a formula is known.
        kl_weight: factor of the divergence, in the variable `kl_weight`.
        **kwargs: arguments of `Stochastic`.
    """

    # What the prior is called that favours nothing, whose logits are `uniform_logits`.
    flat_prior: str | None = "uniform"

    def __init__(
        self, prior: Any = None, kl: str | None = None, kl_weight: float = 1.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if kl not in (None, ANALYTIC, SAMPLED):
            raise ValueError(
                f"{self._label()}: `kl` must be '{ANALYTIC}' or '{SAMPLED}'. Received: {kl!r}"
            )
        names = [name for name in (self.flat_prior, "learned") if name is not None]
        known = ", ".join(map(repr, names))
        if isinstance(prior, str) and prior not in names:
            raise ValueError(
                f"{self._label()}: `prior` must be None, {known} or logits. Received: {prior!r}"
            )
        if isinstance(prior, int):
            raise ValueError(
                f"{self._label()}: `prior` is {prior!r}, a single whole number. The layer has as "
                "many units as it is given logits: put a Dense layer of that size before it. For "
                f"a prior pass {known} or logits, such as [0.0]."
            )
        if not is_finite_number(kl_weight):
            raise ValueError(
                f"{self._label()}: `kl_weight` must be a finite number. Received: {kl_weight!r}"
            )
        if prior is not None and not isinstance(prior, str):
            try:
                prior = np.asarray(prior, dtype=self.noise_dtype)
            except (TypeError, ValueError):
                raise ValueError(
                    f"{self._label()}: `prior` must be None, {known} or logits, as an array. "
                    f"Received: {prior!r}. For a prior that a network computes use "
                    "tf_relax.layers.ConditionalPrior."
                ) from None
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
                    f"{tuple(logits_shape)}: fix the size, or use prior='{self.flat_prior}'."
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
        if callable(self.prior):
            raise ValueError(f"{self._label()} has a function for a prior, and no logits of one.")
        if isinstance(self.prior, str):
            if self.prior == self.flat_prior:
                fixed = self._event_shape.is_fully_defined()
                uniform = self.relaxation.uniform_logits(self._event_shape) if fixed else 0.0
                return tf.constant(uniform, self.noise_dtype)
            return tf.convert_to_tensor(self._prior_variable.value)
        return tf.constant(self.prior)

    def add_divergence(
        self, logits: tf.Tensor, output: tf.Tensor, drawn: Drawn, method: str | None
    ) -> None:
        if self.prior is None:
            return
        # A bound on the likelihood, which overrides the method, counts the divergence in full.
        weight = self.kl_weight if method is None else tf.ones((), logits.dtype)
        # Without a sample there is nothing to estimate from.
        analytic = not drawn.sampled or (method or self.kl or ANALYTIC) == ANALYTIC
        divergence = self._divergence(logits, output, drawn, analytic)
        add_per_example_loss(self, weight * sum_event(where_counted(drawn.mask, divergence)))

    def _divergence(
        self, logits: tf.Tensor, output: tf.Tensor, drawn: Drawn, analytic: bool
    ) -> tf.Tensor:
        # The divergence per event element, by formula where that is wanted and known.
        relaxation, prior = self.relaxation, tf.broadcast_to(self.prior_logits, tf.shape(logits))
        if drawn.mask is not None and isinstance(relaxation, Items):
            # Items that are ruled out are so before anything is drawn, by the prior as well.
            prior = tf.where(drawn.mask, prior, tf.constant(IMPOSSIBLE, prior.dtype))
        divergence = relaxation.kl(logits, prior) if analytic else None
        if divergence is not None:
            return divergence
        drawn.check_sample(self)
        return drawn.log_prob(logits, output) - drawn.log_prob(prior, output)

    def get_config(self) -> dict[str, Any]:
        prior = self.prior.tolist() if isinstance(self.prior, np.ndarray) else self.prior
        return {
            **super().get_config(),
            "prior": prior,
            "kl": self.kl,
            "kl_weight": self.initial_kl_weight,
        }
