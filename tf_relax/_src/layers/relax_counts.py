"""Counts as Keras layers."""

from __future__ import annotations

import keras

from tf_relax._src.layers.discrete import Discrete
from tf_relax._src.relaxations import Geometric, Poisson


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxPoisson(Discrete):
    r"""Stochastic numbers of events, Poisson with rates ``e^a``.

    They have no relaxation: train them with `estimator="measure_valued"` (Mohamed et al. 2020,
    section 6), which compares a count with one more, or with the score-function estimators.

    Args:
        prior: `None` (no divergence), `"learned"` (a trainable logit per unit) or logits, broadcast
            over the event. With a prior the layer adds its divergence, per example, to the
            objective.
        **kwargs: further arguments, as those of `RelaxBernoulli`: kl, kl_weight, inference, seed,
            check_numerics, name, dtype.

    Call arguments:
        logits: floating point, `[batch, *event]`: logarithms of the rates, of which those above 16
            count as 16.
        context: optional, `[batch, ...]`: what a surrogate may look at besides the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: steps that take
            part; others have no divergence.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        Whole numbers, shaped like the logits, in the compute dtype.

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
    flat_prior = None  # no count is as probable as every other


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxGeometric(Discrete):
    r"""Stochastic numbers of failures before a success, whose probability is ``sigmoid(a)``.

    They have no relaxation: train them with `estimator="measure_valued"` (Mohamed et al. 2020,
    section 6), which compares a count with a larger one, or with the score-function estimators.

    Args:
        prior: `None` (no divergence), `"learned"` (a trainable logit per unit) or logits, broadcast
            over the event. With a prior the layer adds its divergence, per example, to the
            objective.
        **kwargs: further arguments, as those of `RelaxBernoulli`: kl, kl_weight, inference, seed,
            check_numerics, name, dtype.

    Call arguments:
        logits: floating point, `[batch, *event]`, of which those below -16 count as -16.
        context: optional, `[batch, ...]`: what a surrogate may look at besides the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: steps that take
            part; others have no divergence.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        Whole numbers, shaped like the logits, in the compute dtype.

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
    flat_prior = None  # no count is as probable as every other
