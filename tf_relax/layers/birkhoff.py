"""Permutations without a tractable probability as Keras layers."""

from __future__ import annotations

from typing import Any

import keras

from tf_relax.layers.discrete import Discrete
from tf_relax.relaxations import GumbelMatching
from tf_relax.relaxations import Rounding as RoundingRelaxation


@keras.saving.register_keras_serializable(package="tf_relax")
class GumbelSinkhorn(Discrete):
    r"""Stochastic matchings, the best assignment under ``a + G``, and their Sinkhorn relaxation.

    Hard samples ``b = argmax_P <P, a + G>`` follow the Gumbel-Matching distribution, and
    ``Sinkhorn((a + G) / t)`` relaxes them (Mena et al. 2018). `estimator="concrete"` trains on the
    relaxed matrices, as Gumbel-Sinkhorn networks do, and `"gumbel_straight_through"` on hard ones
    with their derivative; both are biased. The probability of a matching is not known, so RELAX is
    not defined; `"dlax"` (Grathwohl et al. 2018, equation 7) and the score-function estimators use
    the density of ``a + G`` and are unbiased. The assignment is solved by SciPy on the CPU:
    the layer turns XLA off.

    Args:
        iterations: of Sinkhorn's normalisation.
        temperature: initial temperature t of the relaxation in surrogates; learned.
        prior: `None` (no divergence), `"uniform"`, `"learned"` or logits; see `RelaxBernoulli`.
        **kwargs: further arguments, as those of `RelaxBernoulli`: kl, kl_weight, temperature,
            scale, surrogate, inference, seed, check_numerics, name, dtype.

    Call arguments:
        logits: `[batch, ..., n, n]`.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        Permutation matrices `[batch, ..., n, n]` in the compute dtype.

    Raises:
        ValueError: for ill-shaped logits.

    Example:

    >>> import keras, tf_relax
    >>> logits = keras.layers.Reshape((4, 4))(keras.layers.Dense(16)(keras.Input((8,))))
    >>> tf_relax.layers.GumbelSinkhorn()(logits).shape
    (None, 4, 4)
    """

    def __init__(
        self,
        iterations: int = 20,
        prior: Any = None,
        temperature: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(
            relaxation=GumbelMatching(iterations), prior=prior, temperature=temperature, **kwargs
        )
        self.iterations = iterations

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "iterations": self.iterations}


@keras.saving.register_keras_serializable(package="tf_relax")
class Rounding(Discrete):
    r"""Stochastic permutations: noise around a doubly stochastic matrix, rounded.

    ``z = Sinkhorn(exp M) + nu eps``, ``b`` the permutation nearest to z; Linderman et al. (2018).
    `estimator="concrete"` trains on the paper's ``t z + (1 - t) b`` and is biased; `"dlax"` and the
    score-function estimators use the density of z and are unbiased. The nearest permutation is
    found by SciPy on the CPU: the layer turns XLA off.

    Args:
        iterations: of Sinkhorn's normalisation.
        **kwargs: further arguments: scale, surrogate, inference, seed, check_numerics, name, dtype.

    Call arguments:
        logits: `M` and ``log nu`` side by side, `[batch, ..., n, 2 n]`.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        Permutation matrices `[batch, ..., n, n]` in the compute dtype.

    Raises:
        ValueError: for ill-shaped logits, and for a prior, from which the divergence is not known.

    Example:

    >>> import keras, tf_relax
    >>> logits = keras.layers.Reshape((4, 8))(keras.layers.Dense(32)(keras.Input((8,))))
    >>> tf_relax.layers.Rounding()(logits).shape
    (None, 4, 4)
    """

    def __init__(self, iterations: int = 20, **kwargs: Any):
        if kwargs.get("prior") is not None:
            raise ValueError(
                "Rounding: the divergence from a prior is not known. Use GumbelSinkhorn, or "
                "RelaxPermutation(method='stick_breaking')."
            )
        super().__init__(relaxation=RoundingRelaxation(iterations), **kwargs)
        self.iterations = iterations

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "iterations": self.iterations}
