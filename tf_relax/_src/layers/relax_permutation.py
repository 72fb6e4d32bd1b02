"""Permutations as a Keras layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tf_relax._src.layers.discrete import Discrete
from tf_relax._src.layers.stochastic import ANALYTIC
from tf_relax._src.relaxations import (
    PlackettLuce,
    Relaxation,
    SequentialMatching,
    StickBreakingPermutation,
)

_METHODS: dict[str, Callable[[], Relaxation]] = {
    "plackett_luce": PlackettLuce,
    "stick_breaking": StickBreakingPermutation,
    "matching": SequentialMatching,
}


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxPermutation(Discrete):
    r"""Stochastic permutations of $n$ items.

    Returns permutation matrices `P`, row $i$ of which is the item in place $i$: `P @ x` is `x` in
    the new order. How they are drawn is the `method`:

    - `"plackett_luce"`: $n$ logits, sorted by $a + G$, in $n \log n$ (Gadetsky et al. 2020), with
      the probability $p(P) = \prod_i e^{a_{T_i}} / \sum_{j \ge i} e^{a_{T_j}}$;
    - `"stick_breaking"`: $(n - 1) \times (n - 1)$ logits of sticks (Linderman et al. 2018), with
      the exact probability of the permutation; its map takes $(n - 1)^2$ steps, so it is for small
      $n$;
    - `"matching"`: $n \times n$ logits, row after row chooses one of the columns that are left.

    All three have exact conditional samples, so RELAX (Grathwohl et al. 2018, equation 8) is
    unbiased for them.

    Args:
        method: see above.
        output: `"matrix"`, or `"index"` for the item in every place, int32. Nothing can be relaxed
            through indices, so RELAX works with the surrogate network alone.
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
        logits: `[batch, ..., n]`, `[batch, ..., n - 1, n - 1]` or `[batch, ..., n, n]`.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: items that this
            example has (pairs that may be matched). Others come last, in their order; with
            `"matching"` a row without a partner stays empty.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): `[batch, ..., n, n]` in the compute dtype, or indices `[batch, ..., n]`, int32.

    Raises:
        ValueError: for ill-shaped logits and unknown options.

    Example:

    >>> import keras, tf_relax
    >>> scores = keras.layers.Dense(5)(keras.Input((8,)))
    >>> tf_relax.layers.RelaxPermutation()(scores).shape
    (None, 5, 5)
    """

    outputs = ("matrix", "index")

    def __init__(
        self,
        method: str = "plackett_luce",
        output: str = "matrix",
        prior: Any = None,
        kl: str = ANALYTIC,
        kl_weight: float = 1.0,
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        if method not in _METHODS:
            raise ValueError(
                f"RelaxPermutation: `method` must be one of {tuple(_METHODS)}. Received: {method!r}"
            )
        super().__init__(
            relaxation=_METHODS[method](),
            output=output,
            prior=prior,
            kl=kl,
            kl_weight=kl_weight,
            inference=inference,
            seed=seed,
            check_numerics=check_numerics,
            **kwargs,
        )
        self.method = method

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "method": self.method}
