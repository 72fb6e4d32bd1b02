"""A prior that is itself computed from later samples: hierarchies of layers."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.compat import keras_mask
from tf_relax._src.layers.drawn import Drawn
from tf_relax._src.layers.mask import combined_mask, restricted, where_counted
from tf_relax._src.layers.serving import current_serving
from tf_relax._src.layers.stochastic import SAMPLED, add_per_example_loss
from tf_relax._src.relaxations import Bernoulli, Categorical, Relaxation, Sticks
from tf_relax._src.relaxations.event import sum_event
from tf_relax._src.sites.handler import current_handler

_KINDS: dict[str, Relaxation] = {
    "bernoulli": Bernoulli(),
    "categorical": Categorical(),
    "sticks": Sticks(),
}


@keras.saving.register_keras_serializable(package="tf_relax")
class ConditionalPrior(keras.layers.Layer):
    r"""Holds the samples of one layer against a prior computed from a deeper one.

    For $q(b_1 \mid x) q(b_2 \mid b_1)$ and $p(b_2) p(b_1 \mid b_2) p(x \mid b_1)$ it adds, per
    example,

    $$\mathbb{E} \log q(b_1 \mid x) - \log p(b_1 \mid b_2)$$

    to the objective and passes $b_1$ through. The first term is the entropy of $q$ in closed form;
    the second cannot be, because $b_2$ depends on $b_1$, and is taken at the sample.

    Subsets, trees and other samples that are drawn step by step are held against the prior as they
    were drawn, in their order, which bounds the divergence of the sets and trees themselves.

    Args:
        kind: of the first layer, and of its prior. `None` is that of the layer that returned the
            samples, whichever it is. For samples that went through another layer on the way
            (`Reshape`) say what they are: `"bernoulli"`, `"categorical"` (one-hot) or `"sticks"`
            (categories by stick-breaking).
        **kwargs: name, dtype, as for any Keras layer.

    Call arguments:
        sample: what a layer with `prior=None` returned.
        logits: the logits that it was drawn from, `[batch, *event]`.
        prior_logits: logits of $p(b_1 \mid b_2)$, `[batch, *event]`.
        mask: optional, where `kind` is given: the mask that the first layer was called with.
            Padding that Keras marks in the sample itself needs no mention.

    Returns:
        (tensor): the samples.

    Raises:
        ValueError: where what drew the samples is not known, for layers whose probabilities are not
            known (`GumbelSinkhorn`, `Rounding`), and for masks that do not fit.

    Example:

    >>> import keras, tf_relax
    >>> x = keras.Input((20,))
    >>> a_1 = keras.layers.Dense(8)(x)
    >>> b_1 = tf_relax.layers.RelaxBernoulli()(a_1)
    >>> b_2 = tf_relax.layers.RelaxBernoulli(prior="learned")(keras.layers.Dense(4)(b_1))
    >>> b_1 = tf_relax.layers.ConditionalPrior()(b_1, a_1, keras.layers.Dense(8)(b_2))
    """

    def __init__(self, kind: str | None = None, **kwargs: Any):
        # As in the stochastic layers, log-probabilities need float32 under any dtype policy.
        super().__init__(autocast=False, **kwargs)
        if kind is not None and kind not in _KINDS:
            raise ValueError(
                f"ConditionalPrior: `kind` must be None or one of {tuple(_KINDS)}. "
                f"Received: {kind!r}"
            )
        self.supports_masking = True
        self.kind = kind

    def call(
        self,
        sample: tf.Tensor,
        logits: tf.Tensor,
        prior_logits: tf.Tensor,
        mask: tf.Tensor | None = None,
        sample_mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        if current_serving() is not None:
            return sample  # where there is no objective
        if not tf.TensorShape(logits.shape).is_compatible_with(prior_logits.shape):
            raise ValueError(
                f"ConditionalPrior '{self.name}': `prior_logits` has the shape "
                f"{tuple(prior_logits.shape)} and `logits` {tuple(logits.shape)}. The prior is of "
                "the same kind, with one logit for each: give the layer that computes its logits "
                "as many units."
            )
        dtype = "float64" if self.variable_dtype == "float64" else "float32"
        a, prior = tf.cast(logits, dtype), tf.cast(prior_logits, dtype)
        drawn = self._drawn(sample)
        relaxation = drawn.relaxation
        masks = {"mask": mask, "sample_mask": sample_mask, "mask of the samples": drawn.mask}
        mask = combined_mask(self, relaxation, a, **masks)
        a, prior = restricted(relaxation, a, mask), restricted(relaxation, prior, mask)
        handler = current_handler()
        sampled = handler is not None and handler.divergence == SAMPLED
        entropy = None if sampled else relaxation.entropy(a)
        try:
            if entropy is None:
                drawn.check_sample(self)
            log_q = drawn.log_prob(a, sample) if entropy is None else -entropy
            divergence = log_q - drawn.log_prob(prior, sample)
        except NotImplementedError as error:
            raise ValueError(
                f"ConditionalPrior '{self.name}': the probability of what "
                f"{type(relaxation).__name__} draws is not known, so that it cannot be held "
                f"against a prior. ({error})"
            ) from None
        add_per_example_loss(self, sum_event(where_counted(mask, divergence)))
        return sample

    def _drawn(self, sample: tf.Tensor) -> Drawn:
        """Returns how a sample came about."""
        if self.kind is not None:
            return Drawn(_KINDS[self.kind])
        drawn = Drawn.of(sample)
        if drawn is None:
            raise ValueError(
                f"ConditionalPrior '{self.name}' does not know which layer drew its samples. Pass "
                "it what the layer returned, before anything else (a Reshape, say) is done with "
                f"it, or say what it is: `kind`, one of {tuple(_KINDS)}."
            )
        return drawn

    def compute_mask(self, sample: Any, previous_mask: Any = None) -> Any:
        """Returns the mask that the samples have: the `mask` of a call is that of their logits."""
        return keras_mask(sample)

    def compute_output_shape(
        self, sample_shape: Any, logits_shape: Any, prior_logits_shape: Any
    ) -> Any:
        return sample_shape

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("autocast", None)
        return {**config, "kind": self.kind}
