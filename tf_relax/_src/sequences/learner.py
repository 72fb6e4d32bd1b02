"""The gradient of the expected reward of sequences, from some that were drawn."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.relaxations import Categorical, Draw
from tf_relax._src.sequences.decoder import as_given, read
from tf_relax._src.sequences.drawing import Sequences
from tf_relax._src.sequences.estimators import Group


class Costs(NamedTuple):
    """What sequences earn and cost.

    Attributes:
        at_end: reward of a whole sequence, `[batch]`.
        of_tokens: reward of every token, `[batch, tokens]`.
        kl_weight: of the divergence from the reference.
        entropy_weight: of the entropy.
    """

    at_end: tf.Tensor
    of_tokens: tf.Tensor
    kl_weight: float
    entropy_weight: float


class Evidence(NamedTuple):
    """What is known of the gradient.

    Attributes:
        gradients: of what the optimizer descends, one per trained variable.
        logs: means over the prompts.
    """

    gradients: list[tf.Tensor]
    logs: dict[str, tf.Tensor]


def scored(
    model: Any, inputs: Any, sequences: Sequences, count: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the logits of every token of given sequences, and the tokens one-hot.

    Args:
        model: a `SequenceModel`.
        inputs: context and prompts.
        sequences: of every prompt some.
        count: how many.
    """
    logits = logits_of(model, model.decoder, inputs, sequences, count)
    return logits, tf.one_hot(sequences.tokens, logits.shape[-1], dtype=logits.dtype)


def logits_of(
    model: Any, decoder: keras.Model, inputs: Any, sequences: Sequences, count: int
) -> tf.Tensor:
    """Returns the logits of a decoder for every token of given sequences."""
    context, prompt = read(decoder, inputs, count)
    tokens = tf.concat([prompt, sequences.tokens[:, :-1]], axis=1)
    logits = decoder(as_given([*context, tokens]), training=False)
    logits = model.language.tempered(logits[:, -sequences.tokens.shape[1] :])
    # After the end there is nothing to score, whatever the decoder makes of it.
    there = sequences.mask[..., tf.newaxis] > 0
    return tf.where(there, logits, tf.zeros_like(logits))


def differentiate(
    model: Any, inputs: Any, sequences: Sequences, exists: tf.Tensor, costs: Costs, noise: tf.Tensor
) -> Evidence:
    """Estimates the gradient of every trained variable.

    Args:
        model: a compiled `SequenceModel`.
        inputs: context and prompts.
        sequences: K of every prompt, side by side.
        exists: which of them there are, `[batch, K]`.
        costs: what they earn.
        noise: for surrogates, Gumbels shaped like the logits.
    """
    estimator, relaxation = model.estimator, Categorical()
    grouped, count = tf.shape(exists), estimator.num_samples
    mask = _by_group(sequences.mask, grouped)
    batch = tf.cast(grouped[0], mask.dtype)
    with tf.GradientTape() as tape:
        logits, b = scored(model, inputs, sequences, count)
        a = _by_group(tf.stop_gradient(logits), grouped)
        kl, entropy = _divergences(model, inputs, sequences, logits, relaxation)
        spent = costs.kl_weight * kl - costs.entropy_weight * entropy
        returns = _returns(costs, tf.stop_gradient(spent))
        b = _by_group(b, grouped)
        draw = Draw(b, b, b)
        log_p = tf.reduce_sum(relaxation.log_prob(a, draw) * mask, axis=-1)
        group = Group(
            relaxation, a, draw, log_p, exists, _by_group(returns, grouped), mask,
            _by_group(noise, grouped), model.critic,
        )  # fmt: skip
        g = estimator.gradient(group)
        weights = tf.reshape(estimator.weights(group), [-1])
        losses = [tf.cast(loss, a.dtype) for loss in model.decoder.losses]
        # g descends; what a token itself costs is exact, and has a derivative of its own.
        through = -tf.reduce_sum(tf.reshape(tf.stop_gradient(g), tf.shape(logits)) * logits)
        own = tf.reduce_sum(weights * tf.reduce_sum(spent, axis=-1))
        loss = (through + own) / batch + tf.add_n([tf.zeros([], a.dtype), *losses])
        if model.critic is not None:  # of variables of its own
            losses = [tf.cast(each, a.dtype) for each in model.critic.losses]
            loss += tf.add_n([rules.squared_gradient([[g]]), *losses])
    variables = model.trained_variables
    gradients = tape.gradient(loss, [v.value for v in variables])
    reward = costs.at_end + tf.reduce_sum(costs.of_tokens, axis=-1)
    logs = {
        "reward": reward,
        "length": tf.reduce_sum(sequences.mask, axis=-1),
        "entropy": tf.reduce_sum(entropy, axis=-1),
        "kl": tf.reduce_sum(kl, axis=-1),
        "loss": tf.reduce_sum(spent, axis=-1) - reward,
    }
    means = {name: tf.reduce_sum(weights * value) / batch for name, value in logs.items()}
    return Evidence(gradients, means)


def _divergences(
    model: Any, inputs: Any, sequences: Sequences, logits: tf.Tensor, relaxation: Categorical
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the divergence from the reference and the entropy of every token, given the past."""
    entropy = relaxation.entropy(logits) * sequences.mask
    if model.reference is None:
        return tf.zeros_like(entropy), entropy
    prior = logits_of(model, model.reference, inputs, sequences, model.estimator.num_samples)
    return relaxation.kl(logits, tf.stop_gradient(prior)) * sequences.mask, entropy


def _returns(costs: Costs, spent: tf.Tensor) -> tf.Tensor:
    """Returns what every token answers for: the end, rewards from it on, and costs after it.

    What a token itself costs is its expectation given the past, whose derivative is known.
    """
    from_here = tf.cumsum(costs.of_tokens, axis=1, reverse=True)
    after = tf.cumsum(spent, axis=1, reverse=True, exclusive=True)
    return costs.at_end[:, tf.newaxis] + from_here - after


def _by_group(x: tf.Tensor, grouped: tf.Tensor) -> tf.Tensor:
    shape = tf.concat([grouped, tf.shape(x)[1:]], axis=0)
    result = tf.reshape(x, shape)
    return tf.ensure_shape(result, [None, None, *x.shape[1:]])
