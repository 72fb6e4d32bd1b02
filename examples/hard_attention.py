"""Hard attention: find a digit among clutter, and read it from one small glimpse.

A canvas of 60 x 60 pixels holds a digit at a random place and pieces of other digits (Mnih et al.
2014). A "where" network sees a coarse view, means of 4 x 4 pixels, and scores the positions of a
glimpse of 24 x 24 pixels; `RelaxCategorical` (with `--patches k`, `RelaxTopK`) picks; a "what"
network names the digit from nothing but the glimpse. Both learn from labels of digits alone:
`fit` with `estimator="relax"` differentiates the expected loss in the scores.

    python examples/hard_attention.py --dataset mnist
    python examples/hard_attention.py --dataset digits --steps 1000

The table sets the accuracy against pixels seen, multiplications and time per canvas, for attention
that is learned, random attention, the coarse view alone and a network of the whole canvas. Pixels
seen are those of the coarse view, each counted as one, and those of the glimpse.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import common
import datasets
import tf_relax
from canvases import SIDE, Canvases, digit_images, place
from glimpses import STEP, CoarseView, Crops, Glimpses, positions

CLASSES = 10
ATTENTION = {
    "relax": tf_relax.estimators.Relax(temperature=0.5),
    "reinforce": tf_relax.estimators.Reinforce(),
    "nvil": tf_relax.estimators.Nvil(),
    "leave_one_out": tf_relax.estimators.LeaveOneOut(),
    "straight_through": tf_relax.estimators.StraightThrough(),
}
BASELINES = {"random": "--", "coarse": ":", "full": "-"}  # and their lines, all of them grey


class Result(NamedTuple):
    """What the table says about one network."""

    accuracy: float
    pixels: float  # share of the canvas
    operations: int  # multiplications per canvas
    milliseconds: float  # per thousand canvases, served
    seconds: float  # of training
    curve: list[float]


class Network(NamedTuple):
    """A network to train, the same weights to serve, and what serving it costs."""

    model: keras.Model
    served: keras.Model  # returns logits and, with attention, the positions looked at
    parts: list[keras.Model]  # what runs on a canvas, each as often as it is named
    pixels: int  # that it sees


def tower(side: int, blocks: int) -> keras.Sequential:
    """Builds convolutions with pooling and a dense layer: what looks at pixels."""
    stack: list[Any] = [keras.Input((side, side, 1)), layers.Rescaling(1 / 255)]
    for filters in (16, 32, 32)[:blocks]:
        stack += [
            layers.Conv2D(filters, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(padding="same"),
        ]
    return keras.Sequential([*stack, layers.Flatten(), layers.Dense(128, activation="relu")])


def scorer(glimpse: int) -> keras.Sequential:
    """Scores every position from the coarse pixels in and around it, with the same weights."""
    return keras.Sequential(
        [
            keras.Input((SIDE // STEP, SIDE // STEP, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(1, glimpse // STEP, kernel_initializer="zeros"),
            layers.Flatten(),
        ]
    )


def attentive(glimpse: int, patches: int, at_random: bool = False) -> Network:
    """Builds the network with a "where" and a "what".

    Trained, the choice is one-hot and a product with all patches; served, it is an index and a
    crop.
    """
    canvas = keras.Input((SIDE, SIDE, 1))
    where, what = scorer(glimpse), tower(glimpse, blocks=2)
    answer = keras.Sequential([keras.Input((128,)), layers.Dense(CLASSES)])
    scores = where(CoarseView()(canvas))
    if at_random:
        scores = layers.Rescaling(0.0)(scores)

    def pick(output: str) -> Any:
        options = {"inference": "sample" if at_random else "mode"}
        if patches == 1:
            choice = tf_relax.layers.RelaxCategorical(output=output, **options)(scores)
            return ops.expand_dims(choice, 1)
        output = "ordered" if output == "one_hot" else output
        return tf_relax.layers.RelaxTopK(patches, output, **options)(scores)

    def read(pixels: Any) -> Any:
        features = what(ops.reshape(pixels, (-1, glimpse, glimpse, 1)))
        return answer(ops.mean(ops.reshape(features, (-1, patches, 128)), axis=1))

    model = tf_relax.RelaxModel(canvas, read(Glimpses(glimpse)(canvas, pick("one_hot"))))
    index = pick("index")
    served = keras.Model(canvas, [read(Crops(glimpse)(canvas, index)), index])
    seen = (0 if at_random else (SIDE // STEP) ** 2) + patches * glimpse**2
    parts = [answer, *[what] * patches, *[where] * (not at_random)]
    return Network(model, served, parts, seen)


def inattentive(name: str) -> Network:
    """Builds the network that sees the whole canvas, or only the coarse view of it."""
    canvas = keras.Input((SIDE, SIDE, 1))
    side = SIDE if name == "full" else SIDE // STEP
    what = tower(side, blocks=3 if name == "full" else 2)
    answer = keras.Sequential([keras.Input((128,)), layers.Dense(CLASSES)])
    view = canvas if name == "full" else CoarseView()(canvas)
    model = keras.Model(canvas, answer(what(view)))
    return Network(model, model, [what, answer], side**2)


def multiplications(part: keras.Model) -> int:
    """Counts the products of activations and weights in one evaluation."""
    count = 0
    for layer in part.layers:
        if isinstance(layer, layers.Conv2D):
            count += int(np.prod(layer.output.shape[1:3])) * int(np.prod(layer.kernel.shape))
        elif isinstance(layer, layers.Dense):
            count += int(np.prod(layer.kernel.shape))
    return count


def milliseconds(model: keras.Model, canvases: np.ndarray) -> float:
    """Returns the best of fifty times to serve the canvases, per thousand of them."""
    serve = tf.function(lambda x: model(x, training=False))
    batch = tf.constant(canvases[..., None], tf.float32)
    serve(batch)  # traces
    times = []
    for _ in range(50):
        start = time.perf_counter()
        keras.tree.map_structure(np.asarray, serve(batch))
        times.append(time.perf_counter() - start)
    return 1e6 * min(times) / len(canvases)


def draw(
    path: Path,
    canvases: np.ndarray,
    logits: np.ndarray,
    index: np.ndarray,
    labels: np.ndarray,
    glimpse: int,
    results: dict[str, Result],
) -> None:
    """Draws canvases with what was looked at, and accuracy during training."""
    figure = Figure(figsize=(11, 3.9))
    pictures = figure.add_gridspec(2, 5, left=0.01, right=0.6, top=0.92, bottom=0.02)
    for cell, canvas, guess, chosen, label in zip(
        pictures, canvases, logits.argmax(axis=1), index, labels, strict=False
    ):
        axis = figure.add_subplot(cell)
        axis.imshow(canvas, cmap="gray")
        axis.set_axis_off()
        right = guess == label
        axis.set_title(f"read {guess}" if right else f"read {guess}, is {label}", fontsize=9)
        for place_of in chosen:
            y, x = STEP * np.array(divmod(int(place_of), positions(glimpse)))
            edge = common.SKY if right else common.RED
            axis.add_patch(
                Rectangle((x - 0.5, y - 0.5), glimpse, glimpse, fill=False, ec=edge, lw=2)
            )
    axis = figure.add_axes((0.67, 0.14, 0.32, 0.78))
    for name, result in results.items():
        epochs = len(result.curve)
        look = {"linestyle": BASELINES[name]} if name in BASELINES else {}
        common.curve(axis, np.arange(1, epochs + 1), [result.curve], name, **look)
    axis.set(xlabel="epoch", ylabel="accuracy on validation canvases", ylim=(0, 1))
    common.plain(axis)
    axis.legend(fontsize=8)
    common.save(figure, path)


def main(argv: list[str] | None = None) -> dict[str, Result]:
    """Runs the example; returns the rows of the table that it prints."""
    parser = common.parser(__doc__, output="saved_models", jit=False)
    parser.add_argument("--dataset", choices=datasets.LABELLED, default="digits")
    parser.add_argument("--data", help="local copy of the data: an .npz file or its folder")
    parser.add_argument("--networks", nargs="+", default=["relax", *BASELINES], metavar="NAME",
                        help=f"of {', '.join([*ATTENTION, *BASELINES])}")  # fmt: skip
    parser.add_argument("--patches", type=int, default=1, help="glimpses per canvas")
    parser.add_argument("--glimpse", type=int, default=24, help="its side")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--held-out", type=int, default=10_000, help="canvases of the test")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.networks).difference(ATTENTION, BASELINES):
        parser.error(f"no network is called {', '.join(sorted(unknown))}")
    if arguments.glimpse % STEP or not 0 < arguments.glimpse <= SIDE:
        parser.error(f"--glimpse needs a multiple of {STEP} up to {SIDE}")

    parts = zip(
        datasets.load(arguments.dataset, arguments.data, binarize=None),
        datasets.labels(arguments.dataset, arguments.data),
        strict=True,
    )
    (train, y_train), *held_out = [(digit_images(x), y) for x, y in parts]
    fixed = []
    for (images, y), count in zip(held_out, (2000, arguments.held_out), strict=True):
        rows = np.arange(min(count, arguments.held_out)) % len(images)
        fixed.append((place(images, rows, np.random.default_rng(1))[0], y[rows]))
    validation, (canvases, labels) = fixed

    results: dict[str, Result] = {}
    seen = None
    for name in arguments.networks:
        print(f"\n{name}")
        keras.utils.set_random_seed(arguments.seed)
        if name in ("full", "coarse"):
            network, options = inattentive(name), {}
        else:
            network = attentive(arguments.glimpse, arguments.patches, name == "random")
            options = {"estimator": ATTENTION.get(name, "reinforce")}
        rate = keras.optimizers.schedules.CosineDecay(arguments.learning_rate, arguments.steps)
        network.model.compile(
            keras.optimizers.Adam(rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            **options,
        )
        epochs = min(10, arguments.steps)
        start = time.perf_counter()
        history = network.model.fit(
            Canvases(train, y_train, arguments.steps // epochs, arguments.batch_size, 2),
            epochs=epochs,
            validation_data=validation,
            validation_batch_size=500,
        )
        seconds = time.perf_counter() - start
        logits = network.served.predict(canvases, batch_size=500, verbose=0)
        if name not in ("full", "coarse"):
            logits, index = logits
            seen = (canvases, logits, index, labels) if seen is None else seen
        results[name] = Result(
            accuracy=float(np.mean(logits.argmax(axis=1) == labels)),
            pixels=network.pixels / SIDE**2,
            operations=sum(multiplications(part) for part in network.parts),
            milliseconds=milliseconds(network.served, canvases[:100]),
            seconds=seconds,
            curve=history.history["val_accuracy"],
        )

    if seen is not None:
        path = arguments.output / "hard_attention.png"
        draw(path, *seen, arguments.glimpse, results)
        print(f"\npicture: {path}")
    print(f"\n{arguments.steps} steps, {len(labels)} test canvases of {arguments.dataset}")
    print(
        f"{'network':>16} {'accuracy':>9} {'pixels':>7} {'multiplications':>16} "
        f"{'ms per 1000':>12} {'training':>9}"
    )
    for name, row in results.items():
        print(
            f"{name:>16} {row.accuracy:9.1%} {row.pixels:7.1%} {row.operations:16,} "
            f"{row.milliseconds:12.1f} {row.seconds:7.0f} s"
        )
    return results


if __name__ == "__main__":
    common.run(main, resumes=False)
