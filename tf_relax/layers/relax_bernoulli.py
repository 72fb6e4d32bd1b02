"""Bernoulli units as a Keras layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax.layers.prior import ANALYTIC, SAMPLED, bernoulli_divergence
from tf_relax.layers.stochastic import Stochastic, add_per_example_loss
from tf_relax.relaxations import Bernoulli
from tf_relax.surrogates import Surrogate


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxBernoulli(Stochastic):
    r"""Stochastic binary units that train with unbiased, low-variance gradients.

    Returns hard samples ``b = 1[z > 0]``, ``z = a + log u - log(1 - u)``. Inside a
    `tf_relax.RelaxModel` the logits `a` receive an estimate of ``d E[f(b)] / da``, by default RELAX
    (Grathwohl et al. 2018, equation 8). Differentiated anywhere else, the layer raises.

    Args:
        prior: distribution that the units are held against: `None` (no divergence), `"uniform"`,
            `"learned"` (a trainable logit per unit) or logits, broadcast over the event. With a
            prior the layer adds its divergence, per example, to the objective.
        kl: `"analytic"` for ``KL(q || p)``, `"sampled"` for ``log q(b) - log p(b)``.
        kl_weight: factor of the divergence. It is stored in the non-trainable variable `kl_weight`,
            so that a callback can anneal it with `layer.kl_weight.assign(...)`.
        temperature: initial temperature t > 0 of the relaxation ``sigmoid(z / t)``; learned.
        scale: initial factor of the objective at relaxed inputs in the surrogate; learned.
        surrogate: a `tf_relax.surrogates.Surrogate` or its name: `"sum"` (the objective at relaxed
            inputs plus a network), `"objective"` or `"network"`.
        inference: what `training=False` returns: a `"sample"`, the `"mode"` or the `"mean"`.
        seed: integer seed of the noise.
        check_numerics: whether logits with NaN or infinity raise an error that names the layer.
            Turns `jit_compile` off.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: floating point, `[batch, *event]`, of any rank.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits,
            for example the inputs of the model or samples of earlier layers.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        Samples in {0, 1}, shaped like the logits, in the compute dtype of the layer.

    Raises:
        TypeError: for logits that are not floating point.
        ValueError: for a temperature that is not positive and for unknown options.
        LookupError: (TensorFlow's) when its samples are differentiated outside a `RelaxModel`.
        RuntimeError: when it is recorded inside a `map_fn`, a recurrent loop or an inner
            `tf.function`.

    Example:

    >>> import keras, tf_relax
    >>> inputs = keras.Input((784,))
    >>> logits = keras.layers.Dense(200)(inputs)
    >>> code = tf_relax.layers.RelaxBernoulli(prior="learned")(logits, context=inputs)
    >>> code.shape
    (None, 200)
    """

    relaxation = Bernoulli()

    def __init__(
        self,
        prior: Any = None,
        kl: str = ANALYTIC,
        kl_weight: float = 1.0,
        temperature: float = 0.1,
        scale: float = 1.0,
        surrogate: str | Surrogate = "sum",
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            temperature=temperature,
            scale=scale,
            surrogate=surrogate,
            inference=inference,
            seed=seed,
            check_numerics=check_numerics,
            **kwargs,
        )
        if kl not in (ANALYTIC, SAMPLED):
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
        self.initial_kl_weight = kl_weight

    def build(self, logits_shape: Any, context_shape: Any = None) -> None:
        super().build(logits_shape, context_shape)
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
        if isinstance(self.prior, str) and self.prior == "learned":
            if None in logits_shape[1:]:
                raise ValueError(
                    f"{self._label()}: a learned prior needs logits of fixed size. Received shape "
                    f"{tuple(logits_shape)}: fix the size, or use prior='uniform'."
                )
            self._prior_variable = self.add_weight(
                shape=logits_shape[1:],
                initializer="zeros",
                dtype=self.noise_dtype,
                autocast=False,
                name="prior_logits",
            )

    @property
    def prior_logits(self) -> tf.Tensor:
        """Logits of the prior, broadcastable to the event."""
        if self.prior is None:
            raise ValueError(f"{self._label()} has no prior: pass `prior='learned'`, for example.")
        if isinstance(self.prior, str):
            if self.prior == "uniform":
                return tf.zeros((), self.noise_dtype)
            return tf.convert_to_tensor(self._prior_variable.value)
        return tf.constant(self.prior)

    def add_divergence(
        self, logits: tf.Tensor, sample: tf.Tensor | None, method: str | None
    ) -> None:
        if self.prior is None:
            return
        # A bound on the likelihood, which overrides the method, counts the divergence in full.
        weight = self.kl_weight if method is None else tf.ones((), logits.dtype)
        # Without a sample there is nothing to estimate from, and for Bernoullis no need to.
        method = ANALYTIC if sample is None else method or self.kl
        sample = None if sample is None else tf.cast(sample, logits.dtype)
        divergence = bernoulli_divergence(logits, self.prior_logits, sample, method)
        add_per_example_loss(self, weight * divergence)

    def get_config(self) -> dict[str, Any]:
        prior = self.prior.tolist() if isinstance(self.prior, np.ndarray) else self.prior
        return {
            **super().get_config(),
            "prior": prior,
            "kl": self.kl,
            "kl_weight": self.initial_kl_weight,
        }
