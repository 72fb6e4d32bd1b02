"""Bernoulli units as a Keras layer."""

from __future__ import annotations

from typing import Any

import keras

from tf_relax._src.layers.discrete import Discrete
from tf_relax._src.layers.stochastic import ANALYTIC
from tf_relax._src.relaxations import Bernoulli


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxBernoulli(Discrete):
    r"""Stochastic binary units that train with unbiased, low-variance gradients.

    $$b = \mathbf{1}[z > 0], \quad z = a + \log u - \log(1 - u)$$

    are its hard samples. Inside a `tf_relax.RelaxModel` the logits $a$ receive an estimate of
    $\nabla_a \mathbb{E}[f(b)]$, by default RELAX (Grathwohl et al. 2018, equation 8).
    Differentiated anywhere else, the layer raises.

    Args:
        prior: distribution that the units are held against: `None` (no divergence), `"uniform"`,
            `"learned"` (a trainable logit per unit) or logits, broadcast over the event. With a
            prior the layer adds its divergence, per example, to the objective.
        kl: `"analytic"` for $\mathrm{KL}(q \parallel p)$, `"sampled"` for $\log q(b) - \log p(b)$.
        kl_weight: factor of the divergence. It is stored in the non-trainable variable `kl_weight`,
            so that a callback can anneal it with `layer.kl_weight.assign(...)`.
        inference: what `training=False` returns: a `"sample"`, the `"mode"` or the `"mean"`.
        seed: integer seed of the noise.
        check_numerics: whether logits with NaN or infinity raise an error that names the layer.
            Turns `jit_compile` off.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: floating point, `[batch, *event]`, of any rank.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits,
            for example the inputs of the model or samples of earlier layers.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: units, or whole
            steps, that take part; others are 0 and have no divergence.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): samples in {0, 1}, shaped like the logits, in the compute dtype of the layer.

    Raises:
        TypeError: for logits that are not floating point.
        ValueError: for unknown options.
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
