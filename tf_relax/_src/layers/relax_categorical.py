"""Categorical choices as a Keras layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tf_relax._src.layers.masked import Masked
from tf_relax._src.layers.stochastic import ANALYTIC
from tf_relax._src.relaxations import Categorical, Sticks


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxCategorical(Masked):
    r"""Stochastic choices among categories, on the last axis of the logits.

    Returns $b = \mathrm{argmax}(a + G)$, $G$ Gumbel, one-hot or as an index (Maddison et al. 2014);
    with `method="stick_breaking"` the first $k$ of $K - 1$ logistic sticks with $a_k + l_k > 0$,

    $$p(b = k) = \sigma(a_k) \prod_{j<k} \sigma(-a_j)$$

    (Linderman et al. 2017), which gives an ordinal flavour to categories. Inside a
    `tf_relax.RelaxModel` the logits receive an unbiased estimate of $\nabla_a \mathbb{E}[f(b)]$, by
    default RELAX (Grathwohl et al. 2018, equation 8 and appendix B).

    Args:
        method: `"gumbel"`, or `"stick_breaking"` for logits of K - 1 sticks
            (`tf_relax.relaxations.stick_logits` makes them of the logits of a softmax).
        output: `"one_hot"` or `"index"`. Indices (int32) suit an `Embedding` or a gather; nothing
            can be relaxed through them, so RELAX works with the surrogate network alone.
        mask: booleans `[..., K]`, broadcast over the event: categories that may be chosen in all
            examples. For a mask per example call the layer with one.
        prior: distribution that samples are held against: `None` (no divergence), `"uniform"`,
            `"learned"` (trainable logits) or logits, broadcast over the event.
        kl: `"analytic"` for $\mathrm{KL}(q \parallel p)$ where a formula is known, `"sampled"` for
            $\log q(b) - \log p(b)$.
        kl_weight: factor of the divergence, in the variable `kl_weight`, which a callback can
            anneal: `layer.kl_weight.assign(...)`.
        inference: what `training=False` returns: a `"sample"`, the `"mode"` or the `"mean"`.
        seed: integer seed of the noise.
        check_numerics: whether logits with NaN or infinity raise an error that names the layer.
            Turns `jit_compile` off.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: `[batch, ..., K]` (K - 1 for sticks): any number of choices per example.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: categories that this
            example may choose; for sticks, choices that are no padding.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): `[batch, ..., K]` in the compute dtype, or indices `[batch, ...]`, int32. Where
            all categories are masked nothing is chosen: zeros, or the index -1.

    Raises:
        ValueError: for ill-shaped logits, unknown options, and a mask that leaves nothing to
            choose.

    Example:

    >>> import keras, tf_relax
    >>> logits = keras.layers.Reshape((20, 10))(keras.layers.Dense(200)(keras.Input((784,))))
    >>> tf_relax.layers.RelaxCategorical(prior="uniform")(logits).shape
    (None, 20, 10)
    """

    outputs = ("one_hot", "index")

    def __init__(
        self,
        method: str = "gumbel",
        output: str = "one_hot",
        mask: Sequence[Any] | None = None,
        prior: Any = None,
        kl: str = ANALYTIC,
        kl_weight: float = 1.0,
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        if method not in ("gumbel", "stick_breaking"):
            raise ValueError(
                "RelaxCategorical: `method` must be 'gumbel' or 'stick_breaking'. "
                f"Received: {method!r}"
            )
        relaxation = Categorical() if method == "gumbel" else Sticks()
        super().__init__(
            relaxation=relaxation,
            output=output,
            mask=mask,
            num_chosen=1,
            prior=prior,
            kl=kl,
            kl_weight=kl_weight,
            inference=inference,
            seed=seed,
            check_numerics=check_numerics,
            **kwargs,
        )
        self.method = method
        if mask is not None and method != "gumbel":
            raise ValueError(f"{self._label()}: a mask needs method='gumbel'.")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "method": self.method}
