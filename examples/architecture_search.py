"""Architecture search: which operation belongs on which edge of a small convolutional cell?

A cell has nodes 0 (its input) to 3 (its output), and an edge from every node to every later one. An
edge is zero, the identity, a convolution or a pooling; a node is the sum of what its edges bring.
`RelaxCategorical` draws one operation per edge from trainable logits, and `fit` with
`estimator="relax"` trains these logits together with the weights of all operations on

    E[cross-entropy(b) + price * multiplications(b)],    b ~ prod_e Categorical(logits_e).

Every example of a batch draws an architecture of its own, as the layers do by default. Sharing one
per batch would compute the chosen operations only; but a batch would hold one sample of b instead
of 64, which makes the logits' gradient noisier, and the operations are cheap here. It is also why
the cell has no batch normalization: that would mix examples that went through other architectures.

    python examples/architecture_search.py
    python examples/architecture_search.py --dataset mnist --steps 2000

The table compares estimators by what they find: the mode of the architecture is trained from
scratch, next to random architectures and to the cell with all operations on all edges.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from tqdm import tqdm

import architecture_cell as cell
import common
import tf_relax
from architecture_cell import CHANNELS, Cell, Edges, multiplications, prune
from architecture_results import Found, Row, draw_picture, print_table

CLASSES = 10
ESTIMATORS = ("relax", "leave_one_out", "reinforce", "concrete")


class Data(NamedTuple):
    """Images `[n, side, side, 1]` in [0, 1], and their labels."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def load(dataset: str, path: str | None, seed: int) -> Data:
    """Loads labelled digits of 8 x 8 pixels, or MNIST at half its resolution."""
    if dataset == "digits":
        common.require("sklearn", "pip install scikit-learn")
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = (images / 16).reshape(-1, 8, 8, 1).astype("float32")
        order = np.random.default_rng(seed).permutation(len(images))
        train, test = order[:-500], order[-500:]
        return Data(images[train], labels[train], images[test], labels[test])
    if path is None:
        (train, train_labels), (test, test_labels) = keras.datasets.mnist.load_data()
    else:
        with np.load(path) as file:
            train, train_labels, test, test_labels = (
                file[name] for name in ("x_train", "y_train", "x_test", "y_test")
            )

    def halve(images: np.ndarray) -> np.ndarray:
        return (images.reshape(-1, 14, 2, 14, 2).mean((2, 4)) / 255).astype("float32")[..., None]

    return Data(halve(train), train_labels, halve(test), test_labels)


class Architecture(layers.Layer):
    """Holds the logits of the operations of every edge, and repeats them for every example."""

    def build(self, images_shape: Any) -> None:
        shape = (len(cell.EDGES), len(cell.OPERATIONS))
        self.logits = self.add_weight(shape=shape, initializer="zeros", name="logits")

    def call(self, images: Any) -> Any:
        return ops.broadcast_to(self.logits, (ops.shape(images)[0], *self.logits.shape))


class Price(layers.Layer):
    """Adds the multiplications of the chosen operations to the objective of each example."""

    def __init__(self, price: float, side: int, **kwargs: Any):
        super().__init__(**kwargs)
        millions = [multiplications(name, side) / 1e6 for name in cell.OPERATIONS]
        self.prices = price * np.array(millions, "float32")

    def call(self, choice: Any) -> Any:
        per_example = ops.sum(choice * self.prices, axis=(1, 2))
        # Keras sums the losses of a layer: dividing by the batch makes that sum a mean.
        self.add_loss(per_example / ops.cast(ops.shape(choice)[0], per_example.dtype))
        return choice


def network(images: Any, edges: Edges, choice: Any = None) -> Any:
    """Puts a cell between a first convolution and a classifier; returns the latter's logits."""
    features = layers.Conv2D(CHANNELS, 3, padding="same", activation="relu")(images)
    features = Cell(edges)(features) if choice is None else Cell(edges)(features, choice)
    return layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(features))


def build_search(side: int, price: float, exploration: float) -> tf_relax.RelaxModel:
    """Builds the supernet: all operations on all edges, of which each example draws one.

    The divergence from the uniform prior, annealed to nothing by `Anneal`, keeps operations from
    being dropped before their weights are trained. Without sampling the network runs the mode.
    """
    images = keras.Input((side, side, 1))
    logits = Architecture(name="architecture")(images)
    choice = tf_relax.layers.RelaxCategorical(
        prior="uniform", kl_weight=exploration, inference="mode", name="choice"
    )(logits)
    choice = Price(price, side, name="price")(choice)
    return tf_relax.RelaxModel(images, network(images, [cell.OPERATIONS] * len(cell.EDGES), choice))


def probabilities(model: keras.Model) -> np.ndarray:
    """Returns the probability of every operation on every edge."""
    return np.asarray(ops.softmax(model.get_layer("architecture").logits))


class Anneal(keras.callbacks.Callback):
    """Lowers the weight of the prior to zero over the first 70 % of epochs; keeps probabilities."""

    def __init__(self, exploration: float, epochs: int, label: str):
        super().__init__()
        self.exploration, self.epochs, self.label = exploration, epochs, label
        self.history: list[np.ndarray] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.history.append(probabilities(self.model))
        self.bar = tqdm(total=self.epochs, desc=self.label.rjust(16))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        weight = self.exploration * max(0.0, 1 - epoch / (0.7 * self.epochs))
        self.model.get_layer("choice").kl_weight.assign(weight)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.history.append(probabilities(self.model))
        self.bar.set_postfix(loss=f"{logs['loss']:.3f}")
        self.bar.update()

    def on_train_end(self, logs: Any = None) -> None:
        self.bar.close()


def batches(data: Data, arguments: argparse.Namespace) -> Any:
    """Yields shuffled batches for ever."""
    dataset = tf.data.Dataset.from_tensor_slices((data.train, data.train_labels))
    dataset = dataset.shuffle(len(data.train), seed=arguments.seed).repeat()
    return dataset.batch(arguments.batch_size).prefetch(4)


def build_estimator(name: str) -> tf_relax.estimators.Estimator:
    """Returns an estimator; a relaxed objective in its surrogate starts from temperature 1/2."""
    estimator = tf_relax.estimators.get(name)
    if "scale" in estimator.get_config():  # of the relaxed objective
        return type(estimator)(temperature=0.5)
    return estimator


def search(estimator: str, data: Data, arguments: argparse.Namespace) -> Found:
    """Trains logits and weights together with one estimator, and reads off the mode."""
    keras.utils.set_random_seed(arguments.seed)
    model = build_search(data.train.shape[1], arguments.price, arguments.exploration)
    epochs = min(30, arguments.steps)
    model.compile(
        keras.optimizers.Adam(arguments.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        estimator=build_estimator(estimator),
        steps_per_execution=min(10, arguments.steps // epochs),
        jit_compile=False,
    )
    watch = Anneal(arguments.exploration, epochs, estimator)
    start = time.perf_counter()
    model.fit(
        batches(data, arguments),
        epochs=epochs,
        steps_per_epoch=arguments.steps // epochs,
        callbacks=[watch],
        shuffle=False,  # the dataset shuffles
        verbose=0,
    )
    seconds = time.perf_counter() - start
    history = np.stack(watch.history)
    architecture = prune([cell.OPERATIONS[k] for k in history[-1].argmax(axis=1)])
    answers = model.predict(data.test, batch_size=500, verbose=0).argmax(axis=1)
    accuracy = float(np.mean(answers == data.test_labels))
    return Found(estimator, architecture, history, accuracy, objective(model, data), seconds)


def objective(model: keras.Model, data: Data) -> float:
    """Estimates the expectation that the search minimizes, with hard samples whatever trained it.

    On up to 2000 training images, each of which draws an architecture.
    """
    images, labels = data.train[:2000], data.train_labels[:2000]
    outputs = model(images, training=True)
    entropy = keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)
    price = np.sum(probabilities(model) * model.get_layer("price").prices)
    return float(ops.mean(entropy)) + float(price)


def train_from_scratch(
    candidates: Sequence[Edges], data: Data, arguments: argparse.Namespace
) -> np.ndarray:
    """Trains networks side by side and returns their test accuracies.

    They share nothing but the batches: the losses are summed and Adam scales every weight by
    itself, so each network trains as it would alone, and TensorFlow compiles one graph.
    """
    keras.utils.set_random_seed(arguments.seed)
    images = keras.Input(data.train.shape[1:])
    # [batch, networks, classes], from at least two networks
    model = keras.Model(images, ops.stack([network(images, c) for c in candidates], axis=1))

    def summed(labels: Any, outputs: Any) -> Any:
        labels = ops.broadcast_to(ops.reshape(labels, (-1, 1)), ops.shape(outputs)[:2])
        losses = keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)
        return ops.sum(losses, axis=1)

    model.compile(
        keras.optimizers.Adam(arguments.learning_rate),
        summed,
        steps_per_execution=min(10, arguments.steps),
        jit_compile=False,
    )
    print(f"training {len(candidates)} networks from scratch")
    model.fit(batches(data, arguments), steps_per_epoch=arguments.steps, shuffle=False, verbose=0)
    outputs = model.predict(data.test, batch_size=500, verbose=0)
    return np.mean(outputs.argmax(axis=2) == data.test_labels[:, None], axis=0)


def compare(found: Sequence[Found], data: Data, arguments: argparse.Namespace) -> list[Row]:
    """Trains what was found, random architectures and all operations at once, from scratch."""
    rng = np.random.default_rng(arguments.seed)
    random = [prune(rng.choice(cell.OPERATIONS, len(cell.EDGES))) for _ in range(arguments.random)]
    groups: dict[str, list[Edges]] = {
        one.estimator: [[[name] for name in one.architecture]] * arguments.repeats for one in found
    }
    groups["random"] = [[[name] for name in architecture] for architecture in random]
    groups["all operations"] = [[cell.OPERATIONS] * len(cell.EDGES)] * arguments.repeats
    everything = [candidate for candidates in groups.values() for candidate in candidates]
    accuracies = iter(train_from_scratch(everything, data, arguments))
    side = data.train.shape[1]
    return [
        Row(
            name,
            np.array([next(accuracies) for _ in candidates]),
            np.array([sum(multiplications(o, side) for e in c for o in e) for c in candidates]),
        )
        for name, candidates in groups.items()
    ]


def main(argv: list[str] | None = None) -> tuple[list[Found], list[Row]]:
    """Runs the example; returns what the searches found, and the table."""
    parser = common.parser(__doc__, output="saved_models/architecture_search.png", jit=False)
    parser.add_argument("--dataset", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--data", help="local copy of MNIST: an .npz file")
    parser.add_argument("--estimators", nargs="+", default=ESTIMATORS, metavar="NAME")
    parser.add_argument("--steps", type=int, default=600, help="of every training")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--price", type=float, default=0.2, help="nats per million multiplications")
    parser.add_argument("--exploration", type=float, default=0.3, help="weight of the prior, first")
    parser.add_argument("--random", type=int, default=6, help="architectures to compare with")
    parser.add_argument("--repeats", type=int, default=2, help="trainings of what was found")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)

    data = load(arguments.dataset, arguments.data, arguments.seed)
    found = [search(estimator, data, arguments) for estimator in arguments.estimators]
    rows = compare(found, data, arguments)
    print_table(found, rows)
    draw_picture(found[0], rows, arguments.output)
    print(f"picture: {arguments.output}")
    return found, rows


if __name__ == "__main__":
    common.run(main, resumes=False)
