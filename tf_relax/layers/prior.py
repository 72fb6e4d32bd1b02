"""Priors of Bernoulli units and the divergence from them."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp

from tf_relax.relaxations.event import sum_event

tfd = tfp.distributions

ANALYTIC, SAMPLED = "analytic", "sampled"


def bernoulli_divergence(
    logits: tf.Tensor, prior_logits: tf.Tensor, sample: tf.Tensor, method: str
) -> tf.Tensor:
    r"""Divergence of Bernoulli units from their prior, nats per example.

    `"analytic"` is ``KL(q || p)``; `"sampled"` is its one-sample estimate ``log q(b) - log p(b)``,
    as in the bound of Burda et al. (2016), equation 8.

    Args:
        logits: logits of q, `[batch, *event]`.
        prior_logits: logits of p, broadcast against them.
        sample: hard or relaxed sample of q, `[batch, *event]`.
        method: `"analytic"` or `"sampled"`.

    Returns:
        Nats per example, `[batch]`.
    """
    q, p = tfd.Bernoulli(logits=logits), tfd.Bernoulli(logits=prior_logits)
    if method == ANALYTIC:
        divergence = tfd.kl_divergence(q, p)
    else:
        # Both log-probabilities are linear in the sample, so this holds at relaxed samples as well.
        divergence = q.log_prob(sample) - p.log_prob(sample)
    return sum_event(divergence)
