"""Learns to sort: a network that says nothing but how the numbers of a list should be permuted.

Two stochastic layers, trained on the squared error between the permuted list and the sorted one:

- `gumbel_sinkhorn` (Mena et al. 2018, section 5.1): one small network maps every number to n
  logits, one per place, and `GumbelSinkhorn` relaxes the best assignment. Training is pathwise
  through the relaxed matrix (estimator "concrete"): biased. Noise is off by default, as it only
  blurs a problem whose solution is known to be one permutation; `--noise-scale` turns it on.
- `plackett_luce`: the network maps every number to one score, and `RelaxPermutation` sorts the
  scores with Gumbel noise. Training is on hard permutations, with RELAX: unbiased.

Both networks are applied to every number alike, so that permuting the input changes nothing. That
makes the problem easy: logits that are linear in the number, with slopes in order, sort lists of
any kind, and so does any score that falls. Scores start at zero, all orders equally likely: random
ones are linear in the number at first, and would be right in half of the runs without training.

    python examples/sorting.py --n 10
    python examples/sorting.py --n 50

The figure of merit is the fraction of lists in which any number is out of place, on lists that
training has not seen and without noise (`inference="mode"`). Beside it stands the same fraction for
samples, which says how sure of itself the distribution is; without noise the two are one. The
table says which estimator is biased. A picture shows both fractions and matrices of either kind.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tqdm
from matplotlib.figure import Figure

import common
import tf_relax

METHODS = {"gumbel_sinkhorn": "concrete", "plackett_luce": "relax"}  # and what trains them
LISTS_PER_STEP = 20


class Result(NamedTuple):
    """What training with a method gave.

    Attributes:
        estimator: its name and arguments.
        unbiased: whether its gradient is.
        steps: of training, at every measurement.
        wrong: fraction of lists with any number out of place, at every measurement.
        sampled_wrong: the same with the noise of training.
        misplaced: fraction of numbers out of place, at the end.
        seconds: of training, measurements left out.
    """

    estimator: str
    unbiased: bool
    steps: np.ndarray
    wrong: np.ndarray
    sampled_wrong: np.ndarray
    misplaced: float
    seconds: float


def make_lists(count: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws lists of n uniform numbers, and sorts them in ascending order."""
    lists = rng.random((count, n), dtype=np.float32)
    return lists, np.sort(lists, axis=-1)


def out_of_place(found: np.ndarray, ordered: np.ndarray) -> tuple[float, float]:
    """Returns the fraction of lists with any error, and that of numbers out of place.

    A hard permutation moves numbers without rounding them, so they are compared exactly.
    """
    errors = found != ordered
    return float(errors.any(axis=-1).mean()), float(errors.mean())


def build(
    method: str, n: int, noise_scale: float = 0.0, iterations: int = 20, width: int = 32
) -> tf_relax.RelaxModel:
    """Builds the model; it maps lists `[batch, n]` to the same numbers in another order."""
    inputs = keras.Input((n,), name="list")
    column = keras.layers.Reshape((n, 1))(inputs)
    # Dense acts on the last axis: on every number by itself.
    hidden = keras.layers.Dense(width, activation="relu", name="hidden")(column)
    if method == "gumbel_sinkhorn":
        logits = keras.layers.Dense(n, name="logits")(hidden)
        logits = keras.layers.Permute((2, 1))(logits)  # row i: who is to be in place i
        layer = tf_relax.layers.GumbelSinkhorn(
            iterations, noise_scale=noise_scale, inference="mode", name="permutation"
        )
    else:
        scores = keras.layers.Dense(1, kernel_initializer="zeros", name="scores")(hidden)
        logits = keras.layers.Reshape((n,))(scores)
        layer = tf_relax.layers.RelaxPermutation(inference="mode", name="permutation")
    permuted = keras.layers.Dot(axes=(2, 1), name="permuted")([layer(logits), column])
    return tf_relax.RelaxModel(inputs, keras.layers.Reshape((n,))(permuted), name=method)


def compile_model(
    model: tf_relax.RelaxModel, learning_rate: float = 0.01, temperature: float = 1.0
) -> None:
    """Compiles with Adam, and the estimator that goes with the stochastic layer."""
    if model.name == "gumbel_sinkhorn":
        estimator = tf_relax.estimators.Concrete(temperature)
    else:
        estimator = tf_relax.estimators.Relax()
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss="mse",
        estimator=estimator,
        steps_per_execution=10,
    )


def train(
    model: tf_relax.RelaxModel,
    steps: int,
    test: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
    checkpoints: int = 15,
) -> Result:
    """Trains on fresh lists, and counts errors between stretches of training."""
    lists, ordered = test
    chunks = min(checkpoints, steps)
    per_chunk = steps // chunks
    wrong, sampled_wrong, misplaced, seconds = [], [], 1.0, 0.0
    for chunk in tqdm.trange(chunks + 1, desc=model.name):
        if chunk:
            x, y = make_lists(per_chunk * LISTS_PER_STEP, lists.shape[1], rng)
            start = time.perf_counter()
            model.fit(x, y, batch_size=LISTS_PER_STEP, shuffle=False, verbose=0)
            seconds += time.perf_counter() - start
        found = model.predict(lists, batch_size=len(lists), verbose=0)
        any_error, misplaced = out_of_place(found, ordered)
        wrong.append(any_error)
        sampled_wrong.append(out_of_place(np.asarray(model(lists, training=True)), ordered)[0])
    return Result(
        estimator=str(model.estimator),
        unbiased=model.estimator.unbiased,
        steps=per_chunk * np.arange(chunks + 1),
        wrong=np.array(wrong),
        sampled_wrong=np.array(sampled_wrong),
        misplaced=misplaced,
        seconds=seconds,
    )


def matrices(
    model: tf_relax.RelaxModel, numbers: np.ndarray, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the relaxed permutation matrix of one list, without noise, and the hard one."""
    layer = model.get_layer("permutation")
    logits = keras.Model(model.input, layer.input)(numbers[np.newaxis])
    soft = layer.relaxation.relax(logits, tf.constant(temperature))
    return np.asarray(soft[0]), np.asarray(layer(logits, training=False)[0])


def draw_picture(
    results: dict[str, Result], shown: dict[str, tuple[np.ndarray, np.ndarray]], path: Path
) -> None:
    """Draws the errors over training, and a relaxed and a hard matrix of every method."""
    figure = Figure(figsize=(4.5 + 2.4 * len(shown), 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(4.5, 2.4 * len(shown)))
    axes = left.subplots()
    common.plain(axes)
    for method, result in results.items():
        bias = "unbiased" if result.unbiased else "biased"
        color = common.style(METHODS[method])["color"]
        axes.plot(result.steps, result.wrong, c=color, label=f"{method} ({bias})")
        axes.plot(result.steps, result.sampled_wrong, ":", c=color, label="its samples")
    axes.set(xlabel="step", ylabel="lists with any error", ylim=(-0.03, 1.03))
    axes.legend()
    panels = right.subplots(2, len(shown), squeeze=False)
    for column, (method, pair) in zip(panels.T, shown.items(), strict=True):
        for panel, matrix, kind in zip(column, pair, ("relaxed", "hard"), strict=True):
            panel.imshow(matrix, cmap="gray_r", vmin=0, vmax=1)
            panel.set_title(f"{method}\n{kind}", fontsize="small")
            panel.set(xticks=[], yticks=[])
    common.save(figure, path)


def print_table(results: dict[str, Result]) -> None:
    """Prints what the last measurement gave."""
    print(
        f"\n{'method':<16} {'estimator':<26} {'unbiased':<9} {'lists wrong':>11} {'sampled':>8} "
        f"{'numbers misplaced':>18} {'seconds':>8}"
    )
    for method, result in results.items():
        print(
            f"{method:<16} {result.estimator.split('(coupled')[0]:<26} "
            f"{'yes' if result.unbiased else 'NO':<9} {result.wrong[-1]:>11.4f} "
            f"{result.sampled_wrong[-1]:>8.4f} {result.misplaced:>18.4f} {result.seconds:>8.1f}"
        )


def main(argv: list[str] | None = None) -> dict[str, Result]:
    """Trains with one method or both, prints a table and draws a picture."""
    parser = common.parser(__doc__, output="sorting.png", jit=False)
    parser.add_argument("--n", type=int, default=10, help="length of the lists")
    parser.add_argument("--method", choices=(*METHODS, "both"), default="both")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--noise-scale", type=float, default=0.0, help="of gumbel_sinkhorn")
    parser.add_argument("--temperature", type=float, default=1.0, help="of gumbel_sinkhorn")
    parser.add_argument("--iterations", type=int, default=20, help="of Sinkhorn's normalisation")
    parser.add_argument("--test-lists", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)

    n, temperature = arguments.n, arguments.temperature
    test = make_lists(arguments.test_lists, n, np.random.default_rng([arguments.seed, 1]))
    results, shown = {}, {}
    for method in METHODS if arguments.method == "both" else (arguments.method,):
        keras.utils.set_random_seed(arguments.seed)
        model = build(method, n, arguments.noise_scale, arguments.iterations)
        compile_model(model, arguments.learning_rate, temperature)
        rng = np.random.default_rng([arguments.seed, 0])  # the same lists for all methods
        results[method] = train(model, arguments.steps, test, rng)
        soft = temperature if method == "gumbel_sinkhorn" else 0.1
        shown[method] = matrices(model, test[0][0], soft)
    print_table(results)
    draw_picture(results, shown, arguments.output)
    print(f"picture: {arguments.output}")
    return results


if __name__ == "__main__":
    common.run(main, resumes=False)
