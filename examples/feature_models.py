"""Networks that choose k inputs and read them; what is served reads nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import tf_relax
from feature_sets import Data, Split

HIDDEN, BATCH, REFIT_STEPS = 16, 64, 200


class Scores(keras.layers.Layer):
    """The same learned score of every input for all examples: ``a`` does not depend on x."""

    def build(self, shape: Any) -> None:
        self.scores = self.add_weight(shape=(shape[-1],), initializer="zeros", name="scores")

    def call(self, x: Any) -> Any:
        return ops.zeros_like(x) + self.scores


class Penalty(keras.regularizers.Regularizer):
    """``strength * sum w^2``, with a strength that can be set between runs."""

    def __init__(self, strength: float = 0.001):
        self.strength = keras.Variable(strength, trainable=False, name="strength")

    def __call__(self, w: Any) -> Any:
        return self.strength * ops.sum(ops.square(w))


def build_classifier(n: int) -> keras.Model:
    """Returns the logit of the label from masked inputs and the mask."""
    masked, mask = keras.Input((n,)), keras.Input((n,))
    seen, penalty = keras.layers.Concatenate()([masked, mask]), Penalty()
    hidden = keras.layers.Dense(HIDDEN, "relu", kernel_regularizer=penalty, name="hidden")(seen)
    logit = keras.layers.Dense(1, kernel_regularizer=penalty, name="logit")(hidden)
    return keras.Model([masked, mask], logit, name="classifier")


def build_model(n: int, k: int, per_example: bool = False) -> tf_relax.RelaxModel:
    """Returns scores, choice and classifier."""
    x = keras.Input((n,))
    if per_example:
        hidden = keras.layers.Dense(HIDDEN, "relu", name="selector")(x)
        scores = keras.layers.Dense(n, kernel_initializer="zeros", name="scores")(hidden)
    else:
        scores = Scores(name="scores")(x)
    choice = tf_relax.layers.RelaxTopK(k, inference="mode", name="choice")
    mask = choice(scores, context=x)  # the context is for the surrogate
    return tf_relax.RelaxModel(x, build_classifier(n)([x * mask, mask]))


def logistic_loss() -> keras.losses.Loss:
    """Returns ``log(1 + exp(-logit))`` for the label 1, ``log(1 + exp(logit))`` for 0."""
    return keras.losses.BinaryCrossentropy(from_logits=True)


class Selector:
    """A model that learns to choose, compiled once and restarted for every run."""

    def __init__(self, estimator: Any, n: int, k: int, steps: int, per_example: bool = False):
        self.arguments, self.steps = (n, k, per_example), steps
        self.model = build_model(*self.arguments)
        self.model.compile(
            keras.optimizers.Adam(),
            loss=logistic_loss(),
            estimator=estimator,
            steps_per_execution=steps,
            jit_compile=False,  # compiling takes longer than all runs
        )
        self.chooser = keras.Model(self.model.input, self.model.get_layer("choice").output)
        self.model.optimizer.build(self.model.trained_variables)
        state = [*self.model.optimizer.variables, *self.model.estimator_state.variables]
        self.start = [(variable, variable.numpy()) for variable in state]

    def train(self, data: tuple[np.ndarray, np.ndarray], seed: int, learning_rate: float) -> None:
        """Trains a new model on examples drawn with replacement."""
        keras.utils.set_random_seed(seed)
        for variable, value in self.start:
            variable.assign(value)
        self.model.set_weights(build_model(*self.arguments).get_weights())
        self.model.get_layer("choice").seed_generator.state.assign([seed, 0])
        self.model.optimizer.learning_rate = learning_rate
        x, y = data
        rows = np.random.default_rng(seed).integers(len(x), size=self.steps * BATCH)
        self.model.fit(x[rows], y[rows], batch_size=BATCH, shuffle=False, verbose=0)

    def masks(self, x: np.ndarray) -> np.ndarray:
        """Returns the most probable choice for each example, `[examples, n]`."""
        return np.asarray(self.chooser(x))


class Classifier:
    """The classifier of all methods, compiled once and restarted for every choice."""

    def __init__(self, n: int):
        self.n, self.model = n, build_classifier(n)
        self.penalty = self.model.get_layer("hidden").kernel_regularizer.strength
        self.model.compile(
            keras.optimizers.Adam(0.01),
            loss=logistic_loss(),
            steps_per_execution=REFIT_STEPS,
            jit_compile=False,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.start = [(variable, variable.numpy()) for variable in self.model.optimizer.variables]

    def train(self, x: np.ndarray, mask: np.ndarray, y: np.ndarray, seed: int, penalty: float):
        """Trains a new classifier, with all examples in every step."""
        keras.utils.set_random_seed(seed)
        for variable, value in self.start:
            variable.assign(value)
        self.model.set_weights(build_classifier(self.n).get_weights())
        self.penalty.assign(penalty)
        batches = tf.data.Dataset.from_tensors(((x * mask, mask), y)).cache().repeat(REFIT_STEPS)
        self.model.fit(batches, steps_per_epoch=REFIT_STEPS, shuffle=False, verbose=0)

    def logits(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Returns a logit for each example, `[examples]`."""
        return np.asarray(self.model([x * mask, mask]))[:, 0]


def reader(model: tf_relax.RelaxModel, parts: Split) -> tuple[keras.Model, np.ndarray]:
    """Returns a model of the k chosen raw inputs alone, and which they are.

    With the mask b fixed, ``W [x * b, b] + c = W_k x_k + (c + sum_k W'_k)``: rows of the kernel,
    and a bias. The output is the probability of the label 1.
    """
    n = model.input.shape[-1]
    choice = keras.Model(model.input, model.get_layer("choice").output)
    chosen = np.flatnonzero(np.asarray(choice(np.zeros((1, n), "float32")))[0])
    classifier = model.get_layer("classifier")
    kernel, bias = classifier.get_layer("hidden").get_weights()
    bias = bias + kernel[n:][chosen].sum(0)
    raw = keras.Input((len(chosen),), name="measurements")
    standard = keras.layers.Normalization(
        mean=parts.mean[chosen], variance=parts.scale[chosen] ** 2
    )
    hidden, logit = keras.layers.Dense(HIDDEN, "relu"), keras.layers.Dense(1, "sigmoid")
    alone = keras.Model(raw, logit(hidden(standard(raw))))
    hidden.set_weights([kernel[:n][chosen], bias])
    logit.set_weights(classifier.get_layer("logit").get_weights())
    return alone, chosen


def export(model: tf_relax.RelaxModel, data: Data, parts: Split, folder: Path) -> list[str]:
    """Writes the model of the chosen inputs, and their names in order in a JSON file beside it."""
    alone, chosen = reader(model, parts)
    names = [data.names[index] for index in chosen]
    alone.export(folder, verbose=False)
    folder.with_suffix(".json").write_text(json.dumps({"inputs": names}, indent=1) + "\n")
    return names
