"""Subsets of a given size as a Keras layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tf_relax._src.layers.masked import Masked
from tf_relax._src.layers.stochastic import ANALYTIC
from tf_relax._src.relaxations import TopK


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxTopK(Masked):
    r"""Stochastic subsets: the $k$ items with the largest $a + G$, without replacement.

    $$p(T) = \prod_i \frac{e^{a_{T_i}}}{\sum_{j \notin \{T_1, \ldots, T_{i-1}\}} e^{a_j}}$$

    (Gumbel-top-k, Kool et al. 2019), with the conditional sample of Struminsky et al. (2021). The
    estimate is for ordered subsets, and as such unbiased for functions of the set.

    Args:
        k: size of the subset.
        output: `"set"` (1 for members, `[..., n]`), `"ordered"` (one row per place, `[..., k, n]`)
            or `"index"` (the items in order of choice, `[..., k]`, int32).
        mask: booleans `[..., n]`, broadcast over the event: items that may be chosen in all
            examples. For a mask per example call the layer with one.
        prior: distribution that samples are held against: `None` (no divergence), `"uniform"`,
            `"learned"` (trainable logits) or logits, broadcast over the event.
        kl: `"analytic"` for $\mathrm{KL}(q \parallel p)$ where a formula is known, `"sampled"` for
            $\log q(b) - \log p(b)$.
        kl_weight: factor of the divergence, in the variable `kl_weight`, which a callback can
            anneal: `layer.kl_weight.assign(...)`.
        inference: what `training=False` returns: a `"sample"` or the `"mode"`.
        seed: integer seed of the noise.
        check_numerics: whether logits with NaN or infinity raise an error that names the layer.
            Turns `jit_compile` off.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: `[batch, ..., n]`.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: items that this
            example may choose. An example with fewer than k gets them all.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): subsets in the compute dtype, or indices, -1 where no item is left to choose.

    Raises:
        ValueError: for k > n, ill-shaped logits, and a mask that leaves fewer than k items.

    Example:

    >>> import keras, tf_relax
    >>> scores = keras.layers.Dense(16)(keras.Input((8,)))
    >>> tf_relax.layers.RelaxTopK(4)(scores).shape
    (None, 16)
    """

    outputs = ("set", "ordered", "index")

    def __init__(
        self,
        k: int,
        output: str = "set",
        mask: Sequence[Any] | None = None,
        prior: Any = None,
        kl: str = ANALYTIC,
        kl_weight: float = 1.0,
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        if not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"RelaxTopK: `k` must be a whole number above 0. Received: {k!r}")
        relaxation = TopK(int(k), ordered=output != "set")
        super().__init__(
            relaxation=relaxation,
            output=output,
            mask=mask,
            num_chosen=k,
            prior=prior,
            kl=kl,
            kl_weight=kl_weight,
            inference=inference,
            seed=seed,
            check_numerics=check_numerics,
            **kwargs,
        )
        self.k = int(k)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k}
