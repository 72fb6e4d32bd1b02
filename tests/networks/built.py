"""A random network as a `RelaxModel`, with the data of one step."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import tf_relax
from tests.networks.drawn import EMBEDDED, Network, Site
from tests.networks.ordinary import as_layers


class Built(NamedTuple):
    """What `differentiate` is called with, and the logits of fixed priors by the site's name."""

    model: tf_relax.RelaxModel
    x: list[np.ndarray]
    y: np.ndarray
    sample_weight: np.ndarray | None
    priors: dict[str, np.ndarray]

    def data(self, rows: int | None = None) -> tuple[Any, ...]:
        """Inputs, targets and weights as tensors, or `rows` times those of the first example."""

        def tensor(value: np.ndarray | None) -> tf.Tensor | None:
            if value is None:
                return None
            return tf.constant(value if rows is None else np.repeat(value[:1], rows, axis=0))

        return [tensor(value) for value in self.x], tensor(self.y), tensor(self.sample_weight)


def step_cost(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """A cost in steps, for which there is no derivative."""
    return np.abs(np.floor(4 * y_pred) / 4 - y_true).sum(axis=1)


def compiled_loss(name: str) -> Any:
    return {
        "mse": "mse",
        "mae": "mae",
        "bce": keras.losses.BinaryCrossentropy(from_logits=True),
        "nll": tf_relax.losses.BernoulliNLL(),
        "black_box": tf_relax.losses.BlackBox(step_cost),
    }[name]


def site_layer(site: Site, name: str, prior: np.ndarray, seed: int) -> Any:
    options: dict[str, Any] = {"name": name, "seed": seed, "kl_weight": site.kl_weight}
    options["prior"] = {"conditional": None, "fixed": prior}.get(site.prior, site.prior)
    options["kl"] = "sampled" if site.sampled or "bare" in site.kind.traits else "analytic"
    if site.own_mask:
        options["mask"] = np.reshape(site.mask[0], site.kind.logits)
    return site.kind.layer(**options)


def build(network: Network) -> Built:
    """Builds it in float64, all of its weights random."""
    rng = np.random.default_rng(network.seed)
    model_inputs = [keras.Input((network.inputs,))]
    features, priors, given = [model_inputs[0]], {}, []
    later = []  # samples held against a prior computed from the last feature
    for k, part in enumerate(network.parts):
        name = f"part{k}"
        inputs = [features[i] for i in part.inputs]
        if not isinstance(part, Site):
            features.append(as_layers(part, name, inputs))
            continue
        joined = keras.layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
        logits = keras.layers.Dense(part.kind.size, name=f"logits{k}")(joined)
        logits = keras.layers.Reshape(part.kind.logits)(logits)
        priors[name] = 0.5 * rng.normal(size=part.kind.logits)
        layer = site_layer(part, name, priors[name], int(rng.integers(2**31)))
        mask = None
        if part.mask is not None and not part.own_mask:
            mask = keras.Input(part.kind.logits, dtype="bool")
            model_inputs.append(mask)
            given.append(np.reshape(part.mask, (network.examples, *part.kind.logits)))
        sample = layer(logits, mask=mask)
        if part.prior == "conditional":
            later.append((k, part, sample, logits))
        features.append(as_feature(part, k, sample))
    for k, part, sample, logits in later:
        prior = keras.layers.Dense(part.kind.size, name=f"prior{k}")(features[-1])
        prior = keras.layers.Reshape(part.kind.logits)(prior)
        held = tf_relax.layers.ConditionalPrior()(sample, logits, prior)
        features.append(as_feature(part, k, held, features))
    last = [features[i] for i in network.top] + features[len(network.parts) + 1 :]
    joined = keras.layers.Concatenate()(last) if len(last) > 1 else last[0]
    outputs = keras.layers.Dense(network.outputs, name="output")(joined)
    model = tf_relax.RelaxModel(model_inputs, outputs)
    set_weights(model, network, rng)
    x = [rng.normal(size=(network.examples, network.inputs)), *given]
    y = rng.random((network.examples, network.outputs))
    weight = 0.5 + rng.random(network.examples) if network.weighted else None
    return Built(model, x, y, weight, priors)


def as_feature(site: Site, k: int, sample: Any, features: Any = None) -> Any:
    if site.kind.indices is not None:
        name = f"embedding{k}" if features is None else f"embedding{k}_again"
        sample = keras.layers.Embedding(site.kind.indices, EMBEDDED, name=name)(sample)
    return keras.layers.Flatten()(sample)


def set_weights(model: tf_relax.RelaxModel, network: Network, rng: np.random.Generator) -> None:
    scales = {f"logits{k}": site.scale for k, site in network.sites}
    for layer in model.layers:
        for weight in layer.trainable_weights:
            fan_in = weight.shape[0] if len(weight.shape) > 1 else 4
            scale = scales.get(layer.name, 1.0) / np.sqrt(fan_in)
            weight.assign(scale * rng.normal(size=weight.shape))
