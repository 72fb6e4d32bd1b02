"""Categorical choices as a Keras layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax.layers.discrete import Discrete
from tf_relax.relaxations import Categorical, Sticks


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxCategorical(Discrete):
    r"""Stochastic choices among categories, on the last axis of the logits.

    Returns ``b = argmax(a + G)``, `G` Gumbel, one-hot or as an index (Maddison et al. 2014); with
    `method="stick_breaking"` the first k of K - 1 logistic sticks with ``a_k + l_k > 0``, ``p(b =
    k) = sigmoid(a_k) prod_{j<k} sigmoid(-a_j)`` (Linderman et al. 2017), which gives an ordinal
    flavour to categories. Inside a `tf_relax.RelaxModel` the logits receive an unbiased estimate of
    ``d E[f(b)] / da``, by default RELAX (Grathwohl et al. 2018, equation 8 and appendix B).

    Args:
        output: `"one_hot"` or `"index"`. Indices (int32) suit an `Embedding` or a gather; nothing
            can be relaxed through them, so RELAX works with the surrogate network alone.
        method: `"gumbel"`, or `"stick_breaking"` for logits of K - 1 sticks
            (`tf_relax.relaxations.stick_logits` makes them of the logits of a softmax).
        mask: booleans `[..., K]`, broadcast over the event: categories that may be chosen.
        prior: `None` (no divergence), `"uniform"`, `"learned"` or logits; see `RelaxBernoulli`.
        **kwargs: further arguments, as those of `RelaxBernoulli`: kl, kl_weight, temperature,
            scale, surrogate, inference, seed, check_numerics, name, dtype.

    Call arguments:
        logits: `[batch, ..., K]` (K - 1 for sticks): any number of choices per example.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        `[batch, ..., K]` in the compute dtype, or indices `[batch, ...]`, int32.

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
        output: str = "one_hot",
        method: str = "gumbel",
        mask: Sequence[Any] | None = None,
        prior: Any = None,
        **kwargs: Any,
    ):
        if method not in ("gumbel", "stick_breaking"):
            raise ValueError(
                "RelaxCategorical: `method` must be 'gumbel' or 'stick_breaking'. "
                f"Received: {method!r}"
            )
        relaxation = Categorical() if method == "gumbel" else Sticks()
        super().__init__(relaxation=relaxation, output=output, prior=prior, **kwargs)
        self.method = method
        self.mask = checked_mask(self._label(), mask, least=1)
        if mask is not None and method != "gumbel":
            raise ValueError(f"{self._label()}: a mask needs method='gumbel'.")

    def build(self, logits_shape: Any, context_shape: Any = None) -> None:
        super().build(logits_shape, context_shape)
        self._check_broadcasts("mask", self.mask, logits_shape)

    def _as_logits(self, logits: Any) -> tf.Tensor:
        return masked(super()._as_logits(logits), self.mask)

    def get_config(self) -> dict[str, Any]:
        mask = None if self.mask is None else self.mask.tolist()
        return {**super().get_config(), "method": self.method, "mask": mask}


def checked_mask(owner: str, mask: Any, least: int) -> np.ndarray | None:
    """Returns a mask as booleans.

    Raises:
        ValueError: if it leaves fewer than `least` items alive.
    """
    if mask is None:
        return None
    mask = np.asarray(mask, dtype=bool)
    alive = int(mask.sum(axis=-1).min()) if mask.ndim else 0
    if alive < least:
        raise ValueError(
            f"{owner}: the mask leaves {alive} items to choose from, and {least} are needed."
        )
    return mask


def masked(logits: tf.Tensor, mask: np.ndarray | None) -> tf.Tensor:
    """Makes logits of what may not be chosen so low that it never is."""
    if mask is None:
        return logits
    return tf.where(mask, logits, tf.constant(-1e9, logits.dtype))
