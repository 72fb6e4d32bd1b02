"""Subsets of a given size as a Keras layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tf_relax._src.layers.masked import Masked
from tf_relax._src.relaxations import TopK


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxTopK(Masked):
    r"""Stochastic subsets: the k items with the largest ``a + G``, without replacement.

    ``p(T) = prod_i exp(a_{T_i}) / sum_{j not chosen before} exp(a_j)`` (Gumbel-top-k, Kool et al.
    2019), with the conditional sample of Struminsky et al. (2021). The estimate is for ordered
    subsets, and as such unbiased for functions of the set.

    Args:
        k: size of the subset.
        output: `"set"` (1 for members, `[..., n]`), `"ordered"` (one row per place, `[..., k, n]`)
            or `"index"` (the items in order of choice, `[..., k]`, int32).
        mask: booleans `[..., n]`, broadcast over the event: items that may be chosen in all
            examples. For a mask per example call the layer with one.
        prior: `None` (no divergence), `"uniform"`, `"learned"` or logits; see `RelaxBernoulli`.
        **kwargs: further arguments, as those of `RelaxBernoulli`: kl, kl_weight,
            inference, seed, check_numerics, name, dtype.

    Call arguments:
        logits: `[batch, ..., n]`.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: items that this
            example may choose. An example with fewer than k gets them all.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        Subsets in the compute dtype, or indices, -1 where no item is left to choose.

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
        **kwargs: Any,
    ):
        if not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"RelaxTopK: `k` must be a whole number above 0. Received: {k}")
        relaxation = TopK(int(k), ordered=output != "set")
        super().__init__(
            mask=mask, num_chosen=k, relaxation=relaxation, output=output, prior=prior, **kwargs
        )
        self.k = int(k)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k}
