"""Jigsaw puzzles: reassembles images that were cut into p x p tiles and scrambled.

The experiment of Gumbel-Sinkhorn networks (Mena et al. 2018, section 5.2): one small network maps
every tile, wherever it lies, to p^2 logits, one per place, and `GumbelSinkhorn` relaxes the best
assignment of tiles to places. Training minimises the squared error between the reassembled image
and the original; nobody tells which tile belongs where.

    python examples/jigsaw.py --dataset digits --p 2
    python examples/jigsaw.py --dataset mnist --p 3

The estimator is "concrete" by default, pathwise through relaxed matrices: biased, as the table
says. "gumbel_straight_through" is biased as well; "dlax" is not, and needs `--noise-scale 1`.

Results are for images that training has not seen, with the best assignment and no noise
(`inference="mode"`): the fractions of tiles and of images that are right, and the mean squared
error of pixels. Blank tiles look alike, and nobody can tell them apart: a tile is right if its
pixels are those of the original in its place. A picture shows puzzles and solutions.
"""

from __future__ import annotations

import time
from pathlib import Path

import keras
import numpy as np
import tqdm

import common
import datasets
import tf_relax

# Only "dlax" is unbiased; RELAX would need the probability of a matching, which is not known.
ESTIMATORS = ("concrete", "gumbel_straight_through", "dlax")


def cut(images: np.ndarray, p: int) -> np.ndarray:
    """Cuts square images `[batch, side^2]` into p x p tiles, `[batch, p^2, pixels]`.

    Where p does not divide the side, rows and columns at the border are left out.
    """
    side = round(images.shape[1] ** 0.5)
    size = side // p
    margin = (side - size * p) // 2
    inner = slice(margin, margin + size * p)
    square = images.reshape(-1, side, side)[:, inner, inner]
    tiles = square.reshape(-1, p, size, p, size).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(tiles.reshape(-1, p * p, size * size))


def join(tiles: np.ndarray) -> np.ndarray:
    """Puts tiles `[batch, p^2, pixels]` side by side, `[batch, side, side]`."""
    p, size = (round(number**0.5) for number in tiles.shape[1:])
    square = tiles.reshape(-1, p, p, size, size).transpose(0, 1, 3, 2, 4)
    return square.reshape(-1, p * size, p * size)


def scramble(tiles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Puts the tiles of every image in an order of its own."""
    order = np.argsort(rng.random(tiles.shape[:2]), axis=1)
    return np.take_along_axis(tiles, order[:, :, np.newaxis], axis=1)


def measure(found: np.ndarray, tiles: np.ndarray) -> dict[str, float]:
    """Compares tiles with the original ones, place by place."""
    # A hard permutation moves pixels without rounding them.
    right = (found == tiles).all(axis=-1)
    return {
        "tiles right": float(right.mean()),
        "images right": float(right.all(axis=-1).mean()),
        "pixel MSE": float(np.mean((found - tiles) ** 2)),
    }


def build(
    places: int, pixels: int, width: int = 256, noise_scale: float = 0.0, iterations: int = 20
) -> tf_relax.RelaxModel:
    """Builds the model; it maps tiles `[batch, places, pixels]` to the same ones, rearranged."""
    tiles = keras.Input((places, pixels), name="tiles")
    hidden = tiles
    for k in (1, 2):  # Dense acts on the last axis: on every tile by itself
        hidden = keras.layers.Dense(width, activation="relu", name=f"hidden_{k}")(hidden)
    logits = keras.layers.Dense(places, name="logits")(hidden)
    logits = keras.layers.Permute((2, 1))(logits)  # row i: which tile is to be in place i
    permutation = tf_relax.layers.GumbelSinkhorn(
        iterations, noise_scale=noise_scale, inference="mode", name="permutation"
    )(logits)
    placed = keras.layers.Dot(axes=(2, 1), name="placed")([permutation, tiles])
    return tf_relax.RelaxModel(tiles, placed, name="jigsaw")


def compile_model(
    model: tf_relax.RelaxModel, estimator: str, temperature: float, learning_rate: float
) -> None:
    """Compiles with Adam for the model, and another for surrogates where there are any."""
    chosen = {
        "concrete": tf_relax.estimators.Concrete(temperature),
        "gumbel_straight_through": tf_relax.estimators.GumbelStraightThrough(temperature),
        "dlax": tf_relax.estimators.Dlax(),
    }[estimator]
    model.compile(
        keras.optimizers.Adam(learning_rate), loss="mse", estimator=chosen, steps_per_execution=10
    )


def train(
    model: tf_relax.RelaxModel,
    tiles: np.ndarray,
    validation: np.ndarray,
    steps: int,
    batch_size: int,
    rng: np.random.Generator,
) -> None:
    """Trains on freshly scrambled images, and shows progress on validation images."""
    puzzles = scramble(validation, rng)
    chunks = min(10, steps)
    progress = tqdm.trange(chunks, desc="training")
    for _ in progress:
        chosen = tiles[rng.integers(len(tiles), size=steps // chunks * batch_size)]
        model.fit(scramble(chosen, rng), chosen, batch_size=batch_size, shuffle=False, verbose=0)
        found = model.predict(puzzles, batch_size=500, verbose=0)
        right = measure(found, validation)["tiles right"]
        progress.set_postfix_str(f"validation tiles right {right:.3f}")


def draw_picture(rows: dict[str, np.ndarray], path: Path) -> None:
    """Draws rows of tiled images, with lines between the tiles."""
    columns = len(next(iter(rows.values())))
    figure, axes = common.figure(len(rows), columns, width=1, height=1.15)
    for row, (name, tiles) in zip(axes, rows.items(), strict=True):
        p, size = (round(number**0.5) for number in tiles.shape[1:])
        for panel, image in zip(row, join(tiles), strict=True):
            panel.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            for k in range(1, p):
                for line in (panel.axhline, panel.axvline):
                    line(k * size - 0.5, color=common.BLUE, linewidth=0.5)
            panel.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, fontsize="small")
    common.save(figure, path)


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Trains, prints a table and draws a picture."""
    parser = common.parser(__doc__, output="jigsaw.png", jit=False)
    parser.add_argument("--dataset", choices=datasets.NAMES, default="digits")
    parser.add_argument("--data", help="local copy of the data: an .npz file or its folder")
    parser.add_argument("--p", type=int, choices=(2, 3, 4), default=2, help="tiles per side")
    parser.add_argument("--estimator", choices=ESTIMATORS, default="concrete")
    parser.add_argument("--noise-scale", type=float, default=0.0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--iterations", type=int, default=20, help="of Sinkhorn's normalisation")
    parser.add_argument("--width", type=int, default=256, help="of both hidden layers")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--test-images", type=int, default=2000, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)

    keras.utils.set_random_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    images = datasets.load(arguments.dataset, arguments.data, binarize=None)
    tiles, validation, test = (cut(part, arguments.p) for part in images)
    test = test[: arguments.test_images]
    puzzles = scramble(test, rng)

    model = build(*tiles.shape[1:], arguments.width, arguments.noise_scale, arguments.iterations)
    compile_model(model, arguments.estimator, arguments.temperature, arguments.learning_rate)
    start = time.perf_counter()
    train(model, tiles, validation[:500], arguments.steps, arguments.batch_size, rng)
    seconds = time.perf_counter() - start
    found = model.predict(puzzles, batch_size=500, verbose=0)
    results = {"scrambled": measure(puzzles, test), arguments.estimator: measure(found, test)}

    print(f"\n{arguments.p} x {arguments.p} tiles, {len(test)} images, {seconds:.0f} s of training")
    print(f"{'':<24} {'unbiased':<9} {'tiles right':>12} {'images right':>13} {'pixel MSE':>10}")
    for name, row in results.items():
        bias = {True: "yes", False: "NO"}[model.estimator.unbiased] if name in ESTIMATORS else ""
        print(
            f"{name:<24} {bias:<9} {row['tiles right']:>12.4f} {row['images right']:>13.4f} "
            f"{row['pixel MSE']:>10.5f}"
        )
    shown = slice(10)
    draw_picture(
        {"scrambled": puzzles[shown], "reassembled": found[shown], "original": test[shown]},
        arguments.output,
    )
    print(f"picture: {arguments.output}")
    return results


if __name__ == "__main__":
    common.run(main, resumes=False)
