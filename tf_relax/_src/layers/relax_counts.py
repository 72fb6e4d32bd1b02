"""Counts as Keras layers."""

from __future__ import annotations

from typing import Any

import keras

from tf_relax._src.layers.discrete import Discrete
from tf_relax._src.layers.stochastic import ANALYTIC
from tf_relax._src.relaxations import Geometric, Poisson


class _Counts(Discrete):
    flat_prior = None  # no count is as probable as every other

    def __init__(
        self,
        prior: Any = None,
        kl: str = ANALYTIC,
        kl_weight: float = 1.0,
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            prior=prior,
            kl=kl,
            kl_weight=kl_weight,
            inference=inference,
            seed=seed,
            check_numerics=check_numerics,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxPoisson(_Counts):
    r"""Stochastic numbers of events, Poisson with rates $e^a$.

    They have no relaxation: train them with `estimator="measure_valued"` (Mohamed et al. 2020,
    section 6), which compares a count with one more, or with the score-function estimators.

    Args:
        prior: `None` (no divergence), `"learned"` (a trainable logit per unit) or logits, broadcast
            over the event. With a prior the layer adds its divergence, per example, to the
            objective.
        kl: `"analytic"` for $\mathrm{KL}(q \parallel p)$, `"sampled"` for $\log q(b) - \log p(b)$.
        kl_weight: factor of the divergence, in the variable `kl_weight`, which a callback can
            anneal: `layer.kl_weight.assign(...)`.
        inference: what `training=False` returns: a `"sample"`, the `"mode"` or the `"mean"`.
        seed: integer seed of the noise.
        check_numerics: whether logits with NaN or infinity raise an error that names the layer.
            Turns `jit_compile` off.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: floating point, `[batch, *event]`: logarithms of the rates, of which those above 16
            count as 16.
        context: optional, `[batch, ...]`: what a surrogate may look at besides the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: steps that take
            part; others have no divergence.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): whole numbers, shaped like the logits, in the compute dtype.

    Raises:
        TypeError: for logits that are not floating point.
        ValueError: for unknown options.

    Example:

    >>> import keras, tf_relax
    >>> logits = keras.layers.Dense(20)(keras.Input((8,)))
    >>> tf_relax.layers.RelaxPoisson(prior="learned")(logits).shape
    (None, 20)
    """

    relaxation = Poisson()


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxGeometric(_Counts):
    r"""Stochastic numbers of failures before a success, whose probability is $\sigma(a)$.

    They have no relaxation: train them with `estimator="measure_valued"` (Mohamed et al. 2020,
    section 6), which compares a count with a larger one, or with the score-function estimators.

    Args:
        prior: `None` (no divergence), `"learned"` (a trainable logit per unit) or logits, broadcast
            over the event. With a prior the layer adds its divergence, per example, to the
            objective.
        kl: `"analytic"` for $\mathrm{KL}(q \parallel p)$, `"sampled"` for $\log q(b) - \log p(b)$.
        kl_weight: factor of the divergence, in the variable `kl_weight`, which a callback can
            anneal: `layer.kl_weight.assign(...)`.
        inference: what `training=False` returns: a `"sample"`, the `"mode"` or the `"mean"`.
        seed: integer seed of the noise.
        check_numerics: whether logits with NaN or infinity raise an error that names the layer.
            Turns `jit_compile` off.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: floating point, `[batch, *event]`, of which those below -16 count as -16.
        context: optional, `[batch, ...]`: what a surrogate may look at besides the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: steps that take
            part; others have no divergence.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): whole numbers, shaped like the logits, in the compute dtype.

    Raises:
        TypeError: for logits that are not floating point.
        ValueError: for unknown options.

    Example:

    >>> import keras, tf_relax
    >>> logits = keras.layers.Dense(20)(keras.Input((8,)))
    >>> tf_relax.layers.RelaxGeometric(prior="learned")(logits).shape
    (None, 20)
    """

    relaxation = Geometric()
