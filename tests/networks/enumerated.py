"""The expected objective of a random network, and its gradient, by enumeration in float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tests.networks.built import Built, step_cost
from tests.networks.definitions import Outcomes
from tests.networks.drawn import Network, Site
from tests.networks.ordinary import L2, Node, affine, written_out


class Enumerated(NamedTuple):
    """What is expected of a step.

    Attributes:
        probability: of all outcomes that were listed, `[examples]`.
        gradients: of the mean over examples, by the paths of the weights.
        logit_gradients: by site, ``d E[f_i] / d logits_i``, `[examples, *logits]`.
    """

    probability: np.ndarray
    gradients: dict[str, np.ndarray]
    logit_gradients: list[np.ndarray]


def enumerated(network: Network, built: Built) -> Enumerated:
    weights = built.model.trainable_variables
    shifts = [
        [tf.zeros(site.kind.logits, tf.float64) for _, site in network.sites]
        for _ in range(network.examples)
    ]
    with tf.GradientTape() as tape:
        tape.watch([v.value for v in weights])
        tape.watch(shifts)
        pairs = [of_example(network, built, i, shifts[i]) for i in range(network.examples)]
        total = tf.add_n([expected for _, expected in pairs]) / network.examples
        total += penalty(network, built)
    gradients, by_shift = tape.gradient(
        total, [[v.value for v in weights], shifts], unconnected_gradients="zero"
    )
    gradients = [tf.convert_to_tensor(g).numpy() for g in gradients]
    return Enumerated(
        probability=np.array([float(p) for p, _ in pairs]),
        gradients={v.path: g for v, g in zip(weights, gradients, strict=True)},
        logit_gradients=[
            network.examples * np.stack([g.numpy() for g in of_site])
            for of_site in zip(*by_shift, strict=True)
        ],
    )


def penalty(network: Network, built: Built) -> tf.Tensor:
    """The regularizers."""
    nodes = [k for k, part in enumerate(network.parts) if getattr(part, "regularized", False)]
    kernels = [built.model.get_layer(f"part{k}").kernel.value for k in nodes]
    squares = [tf.reduce_sum(tf.convert_to_tensor(kernel) ** 2) for kernel in kernels]
    return L2 * tf.add_n([tf.zeros((), tf.float64), *squares])


def of_example(
    network: Network, built: Built, i: int, shifts: list[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sum of all probabilities, and the expected objective, of one example.

    Args:
        network: what to compute.
        built: the same with weights and data.
        i: number of the example.
        shifts: zeros that are added to the logits, to differentiate in.
    """
    model = built.model
    listed = [outcomes_of(site, i) for _, site in network.sites]
    # Every row is one joint outcome.
    grid = np.indices([len(outcomes.values) for outcomes in listed]).reshape(len(listed), -1)
    rows = grid.shape[1]
    features = [tf.constant(np.repeat(built.x[0][i : i + 1], rows, axis=0))]
    log_p, divergence = tf.zeros(rows, tf.float64), tf.zeros(rows, tf.float64)
    entropies = tf.zeros((), tf.float64)
    later = []
    for k, part in enumerate(network.parts):
        inputs = [features[n] for n in part.inputs]
        if isinstance(part, Node):
            features.append(written_out(part, f"part{k}", inputs, model))
            continue
        outcomes, chosen, shift = listed[len(later)], grid[len(later)], shifts[len(later)]
        raw = affine(model, f"logits{k}", tf.concat(inputs, axis=1))
        raw = tf.reshape(raw, [rows, *part.kind.logits])
        a = raw + shift  # as the layer received them
        log_q = outcomes.log_prob(a, chosen)
        log_p += log_q
        if part.prior not in (None, "conditional"):
            prior = tf.broadcast_to(prior_of(part, f"part{k}", built), a.shape)
            divergence += part.kl_weight * (log_q - outcomes.log_prob(prior, chosen))
        sample = outcomes.values[chosen]
        later.append((k, part, outcomes, chosen, (log_q, outcomes.log_prob(raw, chosen)), sample))
        features.append(as_feature(part, f"embedding{k}", sample, model))
    top = [features[n] for n in network.top]
    last = features[-1]
    for k, part, outcomes, chosen, (log_q, raw_log_q), sample in later:
        if part.prior != "conditional":
            continue
        prior = tf.reshape(affine(model, f"prior{k}", last), [rows, *part.kind.logits])
        divergence -= outcomes.log_prob(prior, chosen)
        if "entropy" in part.kind.traits:  # in closed form, outside of the layer
            entropies -= tf.reduce_sum(tf.exp(log_p - log_q + raw_log_q) * raw_log_q)
        else:
            divergence += log_q
        last = as_feature(part, f"embedding{k}_again", sample, model)
        top.append(last)
    y_pred = affine(model, "output", tf.concat(top, axis=1))
    f = loss_of(network.loss, built.y[i], y_pred)
    if built.sample_weight is not None:
        f *= built.sample_weight[i]
    p = tf.exp(log_p)
    return tf.reduce_sum(p), tf.reduce_sum(p * (f + divergence)) - entropies


def outcomes_of(site: Site, i: int) -> Outcomes:
    mask = np.ones(site.kind.logits, bool) if site.mask is None else np.array(site.mask[i])
    return site.kind.outcomes(mask.reshape(site.kind.logits))


def prior_of(site: Site, name: str, built: Built) -> tf.Tensor:
    if site.prior == "uniform":
        return tf.constant(site.kind.flat)
    if site.prior == "fixed":
        return tf.constant(built.priors[name])
    (learned,) = built.model.get_layer(name).trainable_weights
    return tf.convert_to_tensor(learned.value)


def as_feature(site: Site, embedding: str, sample: np.ndarray, model: object) -> tf.Tensor:
    if site.kind.indices is not None:
        (table,) = model.get_layer(embedding).weights
        sample = tf.gather(table.value, sample.astype(int))
    return tf.reshape(tf.cast(sample, tf.float64), [len(sample), -1])


def loss_of(name: str, y: np.ndarray, y_pred: tf.Tensor) -> tf.Tensor:
    if name == "black_box":
        return tf.constant(step_cost(y, y_pred.numpy()))
    if name in ("bce", "nll"):
        zero = tf.zeros_like(y_pred)
        nats = tf.reduce_logsumexp(tf.stack([y_pred, zero]), axis=0) - y * y_pred
        return tf.reduce_sum(nats, axis=1) / (nats.shape[1] if name == "bce" else 1)
    difference = y_pred - y
    return tf.reduce_mean(difference**2 if name == "mse" else tf.abs(difference), axis=1)
