"""Samples of any TensorFlow Probability distribution as a Keras layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tf_relax._src.layers.drawn import Drawn
from tf_relax._src.layers.prior import WithPrior
from tf_relax._src.relaxations import Distribution, Draw, Rejection, Relaxed
from tf_relax._src.relaxations.distribution import kl_divergence


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxSample(WithPrior):
    r"""Samples from `make_distribution(a)`, a distribution of `tfp.distributions`.

    Reparameterisable distributions train with `lax` (Grathwohl et al. 2018, equation 6),
    `reparameterization` and the score-function estimators, all others, discrete ones among them,
    with the score-function estimators. With `sampler="rejection"` gamma, beta and Dirichlet
    distributions train with `rejection` (Naesseth et al. 2017).

    Args:
        make_distribution: maps parameters `[batch, *event]` to a distribution whose batch shape
            starts with `[batch]`. Register it with `keras.saving.register_keras_serializable` for
            models that are saved.
        sampler: `"tfp"`, or `"rejection"`: as a function of accepted proposals.
        boosts: of the shape augmentation in `sampler="rejection"`, at least 1.
        prior: `None` (no divergence), `"learned"` (trainable parameters, zero at first), parameters
            of `make_distribution`, broadcast over the event, or a function without arguments that
            returns a distribution of any kind.
        kl: `"analytic"` or `"sampled"`; `None` is analytic where TensorFlow Probability knows a
            formula.
        kl_weight: factor of the divergence, in the variable `kl_weight`, as for `RelaxBernoulli`.
        inference: what `training=False` returns: a `"sample"`, the `"mode"` or the `"mean"`.
        seed: integer seed of the noise.
        check_numerics: whether parameters with NaN or infinity raise an error that names the layer.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: the parameters, floating point.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: steps that take
            part; others have no divergence.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): samples in the compute dtype.

    Raises:
        TypeError: if `make_distribution` does not return a distribution.
        ValueError: for unknown options, and other distributions under `sampler="rejection"`.

    Example:

    >>> import keras, tensorflow_probability as tfp, tf_relax
    >>> def laplace(a):
    ...     return tfp.distributions.Laplace(a, 1.0)
    >>> parameters = keras.layers.Dense(3)(keras.Input((8,)))
    >>> tf_relax.layers.RelaxSample(laplace)(parameters).shape
    (None, 3)
    """

    relaxation: Distribution
    flat_prior = None  # parameters of zero favour something

    def __init__(
        self,
        make_distribution: Callable[[tf.Tensor], Any],
        sampler: str = "tfp",
        boosts: int = 1,
        prior: Any = None,
        kl: str | None = None,
        kl_weight: float = 1.0,
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        if not callable(make_distribution):
            raise TypeError(
                "RelaxSample: `make_distribution` must be a function that returns a distribution. "
                f"Received: {make_distribution!r}"
            )
        if isinstance(prior, tfp.distributions.Distribution):
            raise TypeError(
                "RelaxSample: `prior` must be a function that returns a distribution, since a "
                f"distribution itself cannot be saved. Received: {prior!r}"
            )
        if sampler not in ("tfp", "rejection"):
            raise ValueError(
                f"RelaxSample: `sampler` must be 'tfp' or 'rejection'. Received: {sampler!r}"
            )
        if sampler == "rejection" and (not isinstance(boosts, int) or boosts < 1):
            raise ValueError(f"RelaxSample: `boosts` must be at least 1. Received: {boosts}")
        relaxation = (
            Distribution(make_distribution)
            if sampler == "tfp"
            else Rejection(make_distribution, boosts)
        )
        super().__init__(
            relaxation=relaxation,
            prior=None if callable(prior) else prior,
            kl=kl,
            kl_weight=kl_weight,
            inference=inference,
            seed=seed,
            check_numerics=check_numerics,
            **kwargs,
        )
        self.make_distribution = make_distribution
        if callable(prior):
            self.prior = prior
        self.sampler = sampler
        self.boosts = boosts

    def build(self, logits_shape: Any, context_shape: Any = None) -> None:
        shape = tf.TensorShape(logits_shape)
        try:
            found = Distribution(self.make_distribution).probe(shape, self.noise_dtype)
        except TypeError as error:
            raise TypeError(f"{self._label()}: {error}") from None
        if found.shape.rank == 0 or not found.shape[:1].is_compatible_with(shape[:1]):
            raise ValueError(
                f"{self._label()}: samples of `make_distribution` must have the shape "
                f"[batch, ...], and for parameters of shape {shape} they have {found.shape}."
            )
        if self.sampler == "rejection" and not found.rejection:
            raise ValueError(
                f"{self._label()}: sampler='rejection' is for Gamma, Beta and Dirichlet, and "
                f"`make_distribution` returns {found.name}. Use sampler='tfp'."
            )
        super().build(logits_shape, context_shape)

    def as_output(self, draw: Draw) -> tf.Tensor:
        """Returns the sample, with its derivative where it has one."""
        return tf.cast(draw.b, self.compute_dtype)

    def hard_output(self, logits: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        """Returns the sample; where it has no derivative, differentiating it raises."""
        if isinstance(self.relaxation, Relaxed):
            return output
        return super().hard_output(logits, tf.stop_gradient(output))

    def _divergence(
        self, logits: tf.Tensor, output: tf.Tensor, drawn: Drawn, analytic: bool
    ) -> tf.Tensor:
        if not callable(self.prior):
            return super()._divergence(logits, output, drawn, analytic)
        q, p = self.make_distribution(logits), self.prior()
        divergence = kl_divergence(q, p) if analytic else None
        if divergence is None:
            drawn.check_sample(self)
            b = tf.cast(output, q.dtype)
            divergence = q.log_prob(b) - p.log_prob(b)
        return tf.cast(divergence, logits.dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        serialize = keras.saving.serialize_keras_object
        return {
            **config,
            "make_distribution": serialize(self.make_distribution),
            "prior": serialize(self.prior) if callable(self.prior) else config["prior"],
            "sampler": self.sampler,
            "boosts": self.boosts,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RelaxSample:
        make = keras.saving.deserialize_keras_object(config["make_distribution"])
        prior = config["prior"]
        if isinstance(prior, dict):  # a function
            prior = keras.saving.deserialize_keras_object(prior)
        return cls(**{**config, "make_distribution": make, "prior": prior})
