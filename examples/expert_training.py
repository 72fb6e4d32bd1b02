"""How the methods of `routed_experts.py` are trained and measured, and what they are trained on."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tqdm import tqdm

import common
import datasets
from expert_layers import CLASSES, ROUTER_UNITS, multiplications, network, routed
from tf_relax.estimators import LeaveOneOut, UnorderedSet

COPIES = 5  # of every held-out image, each at a place of its own
EPOCHS = 10  # of a run, between which the exploration falls: divides the steps
SWITCH_BALANCE = 0.01  # at least, as in Fedus et al. (2022)
THRESHOLDS = (0.5, 0.7, 0.9, 0.97, 0.99)
DRAWN: dict[str, Any] = {
    "auto": "auto",
    "relax": "relax",
    "leave_one_out": LeaveOneOut(2),
    "unordered_set": UnorderedSet(2),
    "straight_through": "straight_through",
    "gumbel_straight_through": "gumbel_straight_through",
    "concrete": "concrete",
}
Job = tuple[str, float | None]  # a method and the weight of the price
METHODS = [*DRAWN, "switch", "mixture"]
ONE_ONLY = ("unordered_set", "straight_through", "gumbel_straight_through")  # no subsets


class Images(NamedTuple):
    """Images, `[n, pixels]`, what they show, and which of them are displaced."""

    x: np.ndarray
    y: np.ndarray
    moved: np.ndarray


class Setting(NamedTuple):
    """What all runs have in common."""

    train: Images  # not displaced yet
    test: Images
    units: tuple[int, ...]
    active: int
    steps: int
    batch_size: int
    learning_rate: float
    exploration: float
    balance: float
    jit_compile: Any

    @property
    def prices(self) -> np.ndarray:
        """Multiply-adds of every expert."""
        pixels = self.test.x.shape[1]
        return np.array([multiplications(pixels, units, CLASSES) for units in self.units])

    @property
    def router(self) -> int:
        """Multiply-adds of the router."""
        return multiplications(self.test.x.shape[1], ROUTER_UNITS, len(self.units))


def displace(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Images:
    """Frames images by an eighth of their side, and moves every second one within the frame."""
    n, side = len(images), round(images.shape[1] ** 0.5)
    margin = side // 8
    moved = rng.random(n) < 0.5
    corner = np.where(moved[:, None], rng.integers(2 * margin + 1, size=(n, 2)), margin)
    framed = np.zeros((n, side + 2 * margin, side + 2 * margin), np.float32)
    y, x = (corner[:, axis, None] + np.arange(side) for axis in (0, 1))
    framed[np.arange(n)[:, None, None], y[:, :, None], x[:, None, :]] = images.reshape(
        n, side, side
    )
    return Images(framed.reshape(n, -1), labels, np.any(corner != margin, axis=1))


class Contestant:
    """One method, compiled once and restarted for every seed and weight of the price."""

    def __init__(self, method: str, setting: Setting):
        self.method, self.setting = method, setting
        self.network = self.build()
        self.model = self.network.model
        drawn = {"estimator": DRAWN[method]} if method in DRAWN else {}
        if drawn:  # the weight of the price is no statistic of the batch
            drawn["batch_coupled"] = False
        self.model.compile(
            keras.optimizers.Adam(setting.learning_rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=setting.steps // EPOCHS,
            jit_compile=setting.jit_compile,
            **drawn,
        )
        trained, learned = self.model.trainable_variables, []
        if drawn:
            trained, learned = self.model.trained_variables, self.model.estimator_state.variables
        self.model.optimizer.build(trained)
        state = [*self.model.optimizer.variables, *learned]
        self.start = [(variable, variable.numpy()) for variable in state]

    def build(self) -> Any:
        """Returns a router with new experts."""
        one, balance = self.setting, self.setting.balance
        if self.method == "switch":
            balance = max(balance, SWITCH_BALANCE)
        return routed(one.test.x.shape[1], one.units, self.method, one.active, balance)

    def restart(self, seed: int, price_weight: float) -> None:
        """Returns to the state of a new model."""
        keras.utils.set_random_seed(seed)
        for variable, value in self.start:
            variable.assign(value)
        self.model.set_weights(self.build().model.get_weights())
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":
                variable.assign([seed, 0])
        self.model.get_layer("price").weight.assign(price_weight)

    def train(self, seed: int, price_weight: float) -> None:
        """Trains on images that are displaced anew in every step."""
        self.restart(seed, price_weight)
        exploration = self.model.get_layer("spread").exploration
        first = self.setting.exploration

        def anneal(epoch: int, logs: Any) -> None:
            exploration.assign(first * max(0.0, 1 - epoch / (0.7 * EPOCHS)))

        callback = keras.callbacks.LambdaCallback(on_epoch_begin=anneal)
        fit(self.model, self.setting, seed, [callback])

    def run(self, seed: int, price_weight: float) -> dict[str, Any]:
        """Trains; returns accuracy, multiply-adds per image and load on held-out images."""
        self.train(seed, price_weight)
        x, y, _ = self.setting.test
        served = self.network.served.predict(x, batch_size=len(x), verbose=0)
        chosen = served["weights"] > 0
        per_image = self.setting.router + chosen @ self.setting.prices
        result = {
            "accuracy": float(np.mean(served["logits"].argmax(axis=1) == y)),
            "multiply_adds": float(per_image.mean()),
            "load": (chosen.mean(axis=0) / self.setting.active).tolist(),
        }
        if self.method == "mixture":
            whole = self.model.predict(x, batch_size=len(x), verbose=0).argmax(axis=1)
            result["whole"] = float(np.mean(whole == y))
        return result

    def export(self, folder: Path) -> None:
        """Writes the router and its experts as a SavedModel that runs those that are chosen."""
        self.network.served.export(folder, verbose=False)


def fit(model: keras.Model, setting: Setting, seed: int, callbacks: list[Any]) -> None:
    """Trains a compiled model for all steps."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(setting.train.x), size=setting.steps * setting.batch_size)
    fresh = displace(setting.train.x[rows], setting.train.y[rows], rng)
    data = tf.data.Dataset.from_tensor_slices((fresh.x, fresh.y)).batch(setting.batch_size)
    model.fit(
        data.repeat(),
        epochs=EPOCHS,
        steps_per_epoch=setting.steps // EPOCHS,
        shuffle=False,
        callbacks=callbacks,
        verbose=0,
    )


class Alone:
    """The experts, each by itself on all images: trained side by side, they share the batches."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.model = self.build()
        self.model.compile(
            keras.optimizers.Adam(setting.learning_rate),
            summed,
            steps_per_execution=setting.steps // EPOCHS,
            jit_compile=setting.jit_compile,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.start = [(v, v.numpy()) for v in self.model.optimizer.variables]

    def build(self) -> keras.Model:
        """Returns a model of all answers, `[batch, experts, classes]`."""
        pixels = self.setting.test.x.shape[1]
        images = keras.Input((pixels,))
        answers = [network(pixels, units)(images) for units in self.setting.units]
        return keras.Model(images, ops.stack(answers, axis=1))

    def run(self, seed: int, price_weight: None = None) -> dict[str, Any]:
        """Trains; returns the accuracy of each, and accuracy and multiply-adds of cascades."""
        keras.utils.set_random_seed(seed)
        for variable, value in self.start:
            variable.assign(value)
        self.model.set_weights(self.build().get_weights())
        fit(self.model, self.setting, seed, [])
        x, y, _ = self.setting.test
        logits = self.model.predict(x, batch_size=len(x), verbose=0)
        right = (logits.argmax(axis=2) == y[:, None]).T
        rows, (*_, first, last) = {}, range(len(right))
        first = min(1, first)
        sure = np.asarray(ops.softmax(logits[:, first])).max(axis=1)
        for threshold in THRESHOLDS:
            asked = sure < threshold
            cost = self.setting.prices[first] + asked.mean() * self.setting.prices[last]
            accuracy = np.where(asked, right[last], right[first]).mean()
            rows[f"{threshold:g}"] = [float(accuracy), float(cost)]
        return {"alone": [float(one.mean()) for one in right], "cascade": rows}

    def export(self, folder: Path) -> None:
        """Writes the largest expert as a SavedModel."""
        images = keras.Input(self.model.input_shape[1:])
        largest = [layer for layer in self.model.layers if isinstance(layer, keras.Sequential)][-1]
        keras.Model(images, largest(images)).export(folder, verbose=False)


def summed(labels: Any, outputs: Any) -> Any:
    """Returns the sum of the cross-entropies of several answers, of which each trains alone."""
    labels = ops.broadcast_to(ops.reshape(labels, (-1, 1)), ops.shape(outputs)[:2])
    losses = keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)
    return ops.sum(losses, axis=1)


def load(dataset: str, path: str | None) -> tuple[Images, Images]:
    """Returns images to train on, not displaced yet, and held-out images: no choice uses them."""
    parts = datasets.load(dataset, path, binarize=None)
    labels = datasets.labels(dataset, path)
    train = Images(parts[0], labels[0], np.zeros(len(labels[0]), bool))
    copies = COPIES if dataset == "digits" else 1
    x = np.tile(np.concatenate(parts[1:]), (copies, 1))
    y = np.tile(np.concatenate(labels[1:]), copies)
    return train, displace(x, y, np.random.default_rng(1))


class Runs:
    """Trains what has not been kept, and exports two of the models."""

    def __init__(self, setting: Setting, kept: common.Results, exports: dict[Job, Path]):
        self.setting, self.kept, self.exports = setting, kept, exports
        self.contestant: Contestant | Alone | None = None
        self.method = ""

    def of(self, job: Job, seeds: int, progress: tqdm) -> list[dict[str, Any]]:
        """Returns the results of a method at a weight of the price, one for each seed."""
        results = []
        for seed in range(seeds):
            compute = functools.partial(self.compute, job, seed)
            results.append(self.kept.get(named(job), seed, compute))
            progress.update()
        return results

    def compute(self, job: Job, seed: int) -> dict[str, Any]:
        """Trains one seed of a method, which is compiled unless it is the last one's."""
        method, price = job
        if self.method != method:
            keras.backend.clear_session()
            one = Alone(self.setting) if method == "alone" else Contestant(method, self.setting)
            self.contestant, self.method = one, method
        result = self.contestant.run(seed, price)
        if seed == 0 and job in self.exports:
            self.contestant.export(self.exports[job])
        return result

    def export_missing(self) -> None:
        """Trains again what was kept without its SavedModel."""
        for job, folder in self.exports.items():
            if not (folder / "saved_model.pb").exists():
                self.compute(job, 0)


def named(job: Job) -> str:
    """Returns the name that results are kept by."""
    method, price = job
    return method if price is None else f"{method}, {price:g}"
