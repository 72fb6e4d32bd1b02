"""Experts of different size, a router that chooses among them, and the model that serves both.

What `routed_experts.py` trains. In training every expert runs on every example and a choice,
`[batch, experts]`, picks from their outputs (`Select`); served, an expert runs on the examples that
were sent to it and on no others (`Dispatch`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

import tf_relax

CLASSES = 10
ROUTER_UNITS = 8
JITTER = 0.01  # what Fedus et al. (2022) multiply the router's input by, less 1, at most


def multiplications(*units: int) -> int:
    """Returns the multiply-adds of dense layers in a row, `sum_i units_i units_{i+1}`."""
    return sum(m * n for m, n in itertools.pairwise(units))


class Select(layers.Layer):
    """Picks outputs of experts: `sum_e w_e outputs_e`, for weights `[batch, experts]`."""

    def call(self, outputs: Any, weights: Any) -> Any:
        return ops.sum(outputs * weights[..., None], axis=1)


class Price(layers.Layer):
    """Adds `weight sum_e paid_e price_e` to the objective of each example; returns the choice.

    What is paid for is the choice unless something else is given. The weight is a variable, so that
    one compiled model serves every price.
    """

    def __init__(self, prices: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.prices = np.array(prices, "float32")

    def build(self, *shapes: Any) -> None:
        self.weight = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, choice: Any, paid: Any = None) -> Any:
        paid = choice if paid is None else paid
        per_example = self.weight * ops.sum(paid * self.prices, axis=-1)
        # Keras sums the losses of a layer: dividing by the batch makes that sum a mean.
        self.add_loss(per_example / ops.cast(ops.shape(choice)[0], per_example.dtype))
        return choice


class Spread(layers.Layer):
    """Keeps a router from one expert for all; returns its logits as they are.

    Adds `exploration KL(p || uniform)` to the objective of each example, whose weight is a
    variable to anneal, and to the loss `balance E sum_e f_e P_e` (Fedus et al. 2022, equation 4):
    `f_e` is the share of the batch that finds expert e the most probable, `P_e` its mean
    probability. All of it follows from the logits, before anything is drawn.
    """

    def __init__(self, balance: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.balance = balance

    def build(self, logits_shape: Any) -> None:
        self.exploration = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, logits: Any) -> Any:
        count = logits.shape[-1]
        p = ops.softmax(logits)
        divergence = ops.sum(p * ops.log_softmax(logits), axis=-1) + np.log(count)
        self.add_loss(self.exploration * ops.mean(divergence))
        if self.balance:
            share = ops.mean(most_probable(logits, 1), axis=0)
            self.add_loss(self.balance * count * ops.sum(share * ops.mean(p, axis=0)))
        return logits


class Jitter(layers.Layer):
    """Multiplies every number by one drawn from `[1 - JITTER, 1 + JITTER]`, in training."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        low, high = 1 - JITTER, 1 + JITTER
        noise = keras.random.uniform(ops.shape(inputs), low, high, seed=self.seed_generator)
        return inputs * noise


class Gate(layers.Layer):
    """Returns `p_e` of the k most probable experts, 0 of others; for k > 1 normalised to sum to 1.

    The router of Switch (Fedus et al. 2022, equation 2) and, for k = 2, of GShard.
    """

    def __init__(self, active: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.active = active

    def call(self, logits: Any) -> Any:
        p = ops.softmax(logits)
        kept = p * most_probable(logits, self.active)
        return kept if self.active == 1 else kept / ops.sum(kept, axis=-1, keepdims=True)


class Dispatch(layers.Layer):
    """Returns `sum_e w_e expert_e(x)` and runs an expert where its weight is not zero, only there.

    Gathers the rows of every expert, runs it on them and adds what it says in their places.
    """

    def __init__(self, experts: Sequence[keras.Model], **kwargs: Any):
        super().__init__(**kwargs)
        self.experts = list(experts)

    def call(self, inputs: Any, weights: Any) -> Any:
        total = tf.zeros([tf.shape(inputs)[0], CLASSES], inputs.dtype)
        for e, expert in enumerate(self.experts):
            rows = tf.where(weights[:, e] > 0)
            outputs = expert(tf.gather_nd(inputs, rows))
            outputs *= tf.gather_nd(weights[:, e], rows)[:, tf.newaxis]
            total = tf.tensor_scatter_nd_add(total, rows, outputs)
        return total

    def compute_output_shape(self, inputs_shape: Any, weights_shape: Any) -> Any:
        return (inputs_shape[0], CLASSES)


def most_probable(logits: Any, active: int) -> Any:
    """Returns 1 for the `active` largest logits, 0 for the others."""
    _, index = ops.top_k(logits, active)
    return ops.sum(ops.one_hot(index, logits.shape[-1]), axis=-2)


def network(pixels: int, units: int, outputs: int = CLASSES) -> keras.Sequential:
    """Returns an expert, or the one network of those that do not route: one hidden layer."""
    hidden = layers.Dense(units, activation="relu")
    return keras.Sequential([keras.Input((pixels,)), hidden, layers.Dense(outputs)])


class Routed(NamedTuple):
    """A router and its experts.

    Attributes:
        model: to train; returns the logits of the classes.
        router: from pixels to the logits of the experts.
        served: the same weights; returns logits of the classes, and the weight of every expert.
    """

    model: keras.Model
    router: keras.Model
    served: keras.Model


def routed(
    pixels: int, units: Sequence[int], method: str, active: int = 1, balance: float = 0.0
) -> Routed:
    """Builds a router with its experts.

    Args:
        pixels: of an image.
        units: hidden units of every expert.
        method: `"switch"` for probabilities as weights of the most probable experts, `"mixture"`
            for those of all experts (served, the most probable ones), and anything else for
            experts that are drawn, with weights of 1 / `active`.
        active: experts per example.
        balance: weight of the loss that asks for equal shares.

    The prices are multiply-adds, those of the largest expert being 1 (1 / `active` if several run).
    """
    images = keras.Input((pixels,))
    experts = [network(pixels, count) for count in units]
    hidden = layers.Dense(ROUTER_UNITS, activation="relu")
    # Zeros: every expert is as probable as the others at first.
    scores = layers.Dense(len(units), kernel_initializer="zeros")
    router = keras.Sequential([keras.Input((pixels,)), hidden, scores], name="router")
    prices = [multiplications(pixels, count, CLASSES) for count in units]
    price = Price(np.array(prices) / max(prices) / active, name="price")
    outputs = ops.stack([expert(images) for expert in experts], axis=1)

    seen = Jitter()(images) if method == "switch" else images
    logits = Spread(balance, name="spread")(router(seen))
    asked = router(images)
    if method in ("switch", "mixture"):
        gate = Gate(active)
        weights = gate(logits) if method == "switch" else ops.softmax(logits)
        # Paid for as if drawn: what the most probable ones cost has no derivative.
        weights = price(weights, active * ops.softmax(logits))
        model = keras.Model(images, Select()(outputs, weights))
        served = gate(asked) if method == "switch" else most_probable(asked, active) / active
    else:
        model = tf_relax.RelaxModel(
            images, Select()(outputs, price(choose(active)(logits)) / active)
        )
        served = choose(active)(asked) / active
    answer = Dispatch(experts)(images, served)
    return Routed(model, router, keras.Model(images, {"logits": answer, "weights": served}))


def choose(active: int) -> keras.layers.Layer:
    """Returns the layer that draws experts, 1 for the chosen ones; in inference, their mode."""
    if active == 1:
        return tf_relax.layers.RelaxCategorical(inference="mode")
    return tf_relax.layers.RelaxTopK(active, inference="mode")
