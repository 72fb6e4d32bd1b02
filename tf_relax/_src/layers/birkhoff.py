"""Permutations without a tractable probability as Keras layers."""

from __future__ import annotations

from typing import Any

import keras

from tf_relax._src.layers.discrete import Discrete
from tf_relax._src.layers.stochastic import ANALYTIC
from tf_relax._src.relaxations import GumbelMatching, NearestPermutation


@keras.saving.register_keras_serializable(package="tf_relax")
class GumbelSinkhorn(Discrete):
    r"""Stochastic matchings, the best assignment under $a + G$, and their Sinkhorn relaxation.

    Hard samples $b = \mathrm{argmax}_P \langle P, a + G \rangle$ follow the Gumbel-Matching
    distribution, and $\mathrm{Sinkhorn}((a + G) / t)$ relaxes them (Mena et al. 2018).
    `estimator="concrete"` trains on the relaxed matrices, as Gumbel-Sinkhorn networks do, and
    `"gumbel_straight_through"` on hard ones with their derivative; both are biased. The probability
    of a matching is not known, so RELAX is not defined; `"dlax"` (Grathwohl et al. 2018, equation
    7) and the score-function estimators use the density of $a + G$ and are unbiased. The assignment
    is solved by SciPy on the CPU: the layer turns XLA off.

    Args:
        iterations: of Sinkhorn's normalisation.
        noise_scale: $s$ in $z = a + s G$, which takes the place of $a + G$. Below 1, training
            explores less; at 0 the layer is the best assignment itself and Sinkhorn's relaxation of
            it, for `"concrete"` and `"gumbel_straight_through"` alone. Priors need 1.
        prior: distribution that samples are held against: `None` (no divergence), `"uniform"`,
            `"learned"` (trainable logits) or logits, broadcast over the event.
        kl: `"analytic"` for $\mathrm{KL}(q \parallel p)$.
        kl_weight: factor of the divergence, in the variable `kl_weight`, which a callback can
            anneal: `layer.kl_weight.assign(...)`.
        inference: what `training=False` returns: a `"sample"` or the `"mode"`.
        seed: integer seed of the noise.
        check_numerics: whether logits with NaN or infinity raise an error that names the layer.
            Turns `jit_compile` off.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: `[batch, ..., n, n]`.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: pairs that may be
            matched, of which a whole matching has to consist.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): permutation matrices `[batch, ..., n, n]` in the compute dtype.

    Raises:
        ValueError: for ill-shaped logits, for a `noise_scale` that is negative, or other than 1
            with a prior, and in training at 0 with an estimator that needs the density of z.

    Example:

    >>> import keras, tf_relax
    >>> logits = keras.layers.Reshape((4, 4))(keras.layers.Dense(16)(keras.Input((8,))))
    >>> tf_relax.layers.GumbelSinkhorn()(logits).shape
    (None, 4, 4)
    """

    def __init__(
        self,
        iterations: int = 20,
        noise_scale: float = 1.0,
        prior: Any = None,
        kl: str = ANALYTIC,
        kl_weight: float = 1.0,
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        relaxation = GumbelMatching(iterations, noise_scale, name="GumbelSinkhorn")
        super().__init__(
            relaxation=relaxation,
            prior=prior,
            kl=kl,
            kl_weight=kl_weight,
            inference=inference,
            seed=seed,
            check_numerics=check_numerics,
            **kwargs,
        )
        # Its errors name the layer, which has a name from here on.
        self.relaxation = GumbelMatching(iterations, noise_scale, name=self._label())
        self._of_any_shape = self.relaxation
        if prior is not None and noise_scale != 1:
            raise ValueError(
                f"{self._label()}: the divergence from a prior is that of Gumbels of scale 1. Use "
                f"noise_scale=1, or prior=None. Received: noise_scale={noise_scale}"
            )
        self.iterations = iterations
        self.noise_scale = noise_scale

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "iterations": self.iterations,
            "noise_scale": self.noise_scale,
        }


@keras.saving.register_keras_serializable(package="tf_relax")
class Rounding(Discrete):
    r"""Stochastic permutations: noise around a doubly stochastic matrix, rounded.

    $$z = \mathrm{Sinkhorn}(e^M) + \nu \varepsilon$$

    and $b$ is the permutation nearest to $z$; Linderman et al. (2018). `estimator="concrete"`
    trains on the paper's $t z + (1 - t) b$ and is biased; `"dlax"` and the score-function
    estimators use the density of $z$ and are unbiased. The nearest permutation is found by SciPy on
    the CPU: the layer turns XLA off.

    Args:
        iterations: of Sinkhorn's normalisation.
        inference: what `training=False` returns: a `"sample"` or the `"mode"`.
        seed: integer seed of the noise.
        check_numerics: whether logits with NaN or infinity raise an error that names the layer.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: $M$ and $\log \nu$ side by side, `[batch, ..., n, 2 n]`.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: matrices that take
            part.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): permutation matrices `[batch, ..., n, n]` in the compute dtype.

    Raises:
        ValueError: for ill-shaped logits, and for a prior, from which the divergence is not known.

    Example:

    >>> import keras, tf_relax
    >>> logits = keras.layers.Reshape((4, 8))(keras.layers.Dense(32)(keras.Input((8,))))
    >>> tf_relax.layers.Rounding()(logits).shape
    (None, 4, 4)
    """

    def __init__(
        self,
        iterations: int = 20,
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        if kwargs.get("prior") is not None:
            raise ValueError(
                "Rounding: the divergence from a prior is not known. Use GumbelSinkhorn, or "
                "RelaxPermutation(method='stick_breaking')."
            )
        super().__init__(
            relaxation=NearestPermutation(iterations),
            inference=inference,
            seed=seed,
            check_numerics=check_numerics,
            **kwargs,
        )
        self.iterations = iterations

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "iterations": self.iterations}
