r"""The toy problem of PL-RELAX: eight items to be sorted, and a signal far below the noise.

    python benchmarks/permutation_toy.py --output docs/permutation_toy.png

Minimise ``E ||P - T||_F^2`` over the d = 8 logits of Plackett and Luce's permutations P, one
sample per step. T is almost the matrix that prefers no permutation: ``1/d + eps`` on the diagonal
and ``1/d - eps / (d - 1)`` elsewhere, eps = .05 (Gadetsky et al. 2020, arXiv:1911.10036, whose code
has this target). The identity is optimal, and every item in its own place is worth ``2 eps d /
(d - 1) = .114``, of an objective of about 7. Plackett and Luce's model reaches the optimum only in
the limit of logits that are far apart.

All estimators start from equal logits, with Adam at the same rate for logits and surrogates (as the
authors do); all rates of a grid are tried with every estimator and the best one of each is drawn.
The distance from the optimum is exact: places are marginalised over the 2^d sets of items before.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import tf_relax
from tf_relax.surrogates import Network, Objective, Sum

mpl.use("Agg")
from matplotlib import pyplot as plt

COLORS = {
    "reinforce": "#D55E00",
    "rebar": "#0072B2",
    "relax": "#009E73",
    "leave_one_out": "#CC79A7",
}
ENOUGH = 0.02
TEMPERATURE = 1.0  # of relaxed permutations, at the start


def target(items: int, eps: float) -> np.ndarray:
    """Returns T."""
    off_diagonal = 1 / items - eps / (items - 1)
    return np.where(np.eye(items) == 1, 1 / items + eps, off_diagonal).astype("float32")


def squared_distance(t: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
    """Returns ``||P - T||_F^2``, one per example."""
    return tf.reduce_sum(tf.square(p - tf.cast(t, p.dtype)), axis=[-2, -1])


def placed(logits: np.ndarray) -> np.ndarray:
    """Returns ``P(item j is in place i)``, `[i, j]`, under Plackett and Luce's model."""
    items = len(logits)
    weights = np.exp(logits - np.max(logits)).astype("float64")
    members, order = _sets(items)
    rest = (1 - members) @ weights
    reached = np.zeros(len(members))  # the probability that these items come first
    reached[0] = 1
    marginals = np.zeros((items, items))
    for s in order[:-1]:
        following = (1 - members[s]) * weights / rest[s] * reached[s]
        marginals[int(members[s].sum())] += following
        for j in np.flatnonzero(members[s] == 0):
            reached[s | 1 << j] += following[j]
    return marginals


@functools.cache
def _sets(items: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns all sets of items as rows of 0 and 1, and an order in which they grow."""
    members = np.arange(2**items)[:, None] >> np.arange(items) & 1
    return members, np.argsort(members.sum(axis=1), kind="stable")


def gap(logits: np.ndarray, eps: float) -> float:
    """Returns the expected objective minus that of the identity."""
    # ||P||^2 is d for every permutation: the cross term is all that differs.
    t = target(len(logits), eps).astype("float64")
    return 2 * float(np.sum((np.eye(len(logits)) - placed(logits)) * t))


def build(items: int) -> tf_relax.RelaxModel:
    """Returns one trainable logit per item, all 0 at first, and the permutation they drive."""
    one = keras.Input((1,))  # always 1, so the kernel is the logits
    scores = keras.layers.Dense(items, use_bias=False, kernel_initializer="zeros", name="scores")(
        one
    )
    order = tf_relax.layers.RelaxPermutation(name="order")
    return tf_relax.RelaxModel(one, order(scores))


def build_estimator(name: str) -> tf_relax.estimators.Estimator:
    """Returns an estimator, whose surrogate, if it has one, starts from temperature 1."""
    estimator = tf_relax.estimators.get(name)
    config = estimator.get_config()
    if "surrogate" in config:
        # The objective at relaxed inputs plus a network of 32 units, as in the paper.
        config["surrogate"] = Sum([Objective(), Network(units=(32,), looks_at=())])
    if "scale" in config:  # of the objective at relaxed inputs
        config["temperature"] = TEMPERATURE
    return type(estimator).from_config(config)


class Toy:
    """The model under one estimator, compiled once and restarted for every rate and seed."""

    def __init__(self, estimator: str, items: int, eps: float, per_checkpoint: int, jit: bool):
        self.estimator, self.items, self.eps = estimator, items, eps
        self.per_checkpoint = per_checkpoint
        self.model = build(items)
        self.model.compile(
            tf_relax.RelaxOptimizer(keras.optimizers.Adam(), keras.optimizers.Adam()),
            loss=squared_distance,
            estimator=build_estimator(estimator),
            jit_compile=jit,
            steps_per_execution=per_checkpoint,
        )
        self.optimizer = self.model.optimizer
        self.optimizer.build(self.model.trained_variables)
        self.optimizer_start = [keras.ops.convert_to_numpy(v) for v in self.optimizer.variables]
        example = np.ones((1, 1), "float32"), target(items, eps)[np.newaxis]
        self.data = tf.data.Dataset.from_tensors(example).repeat()

    def restart(self, rate: float, seed: int) -> None:
        """Returns to the state of a new model, with a new network and new noise per seed."""
        keras.utils.set_random_seed(seed)
        new = build(self.items)
        new.compile(None, loss=squared_distance, estimator=build_estimator(self.estimator))
        self.model.set_weights(new.get_weights())
        learned, start = self.model.estimator_state, new.estimator_state
        for variable, value in zip(learned.variables, start.variables, strict=True):
            variable.assign(value)
        self.model.get_layer("order").seed_generator.state.assign([seed, 0])
        for variable, value in zip(self.optimizer.variables, self.optimizer_start, strict=True):
            variable.assign(value)
        self.optimizer.optimizer.learning_rate = rate
        self.optimizer.surrogate_optimizer.learning_rate = rate

    def run(self, rate: float, seed: int, checkpoints: int) -> np.ndarray:
        """Trains from the start and returns the gap at every checkpoint, the first at step 0."""
        self.restart(rate, seed)
        scores = self.model.get_layer("scores").kernel
        gaps = [gap(keras.ops.convert_to_numpy(scores)[0], self.eps)]

        def measure(epoch: int, logs: Any) -> None:
            gaps.append(gap(keras.ops.convert_to_numpy(scores)[0], self.eps))

        self.model.fit(
            self.data,
            epochs=checkpoints,
            steps_per_epoch=self.per_checkpoint,
            shuffle=False,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=measure)],
        )
        return np.array(gaps)


def plot(
    curves: dict[str, np.ndarray], steps: np.ndarray, rates: dict[str, float], path: Path
) -> None:
    """Draws the gap over steps: a line per seed, and the median."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, runs in curves.items():
        color = COLORS.get(name, "0.4")
        axes.plot(steps, runs.T, color=color, alpha=0.3, linewidth=0.8)
        label = f"{name}, Adam {rates[name]:g}"
        axes.plot(steps, np.median(runs, axis=0), color=color, linewidth=2, label=label)
    axes.axhline(ENOUGH, color="0.5", linestyle=":", linewidth=1)
    axes.set(yscale="log", xlabel="step", ylabel="objective minus optimum")
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(argv: list[str] | None = None) -> dict[str, dict[float, np.ndarray]]:
    """Runs the benchmark; returns the gaps by estimator and rate, `[seeds, checkpoints + 1]`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--estimators", nargs="+", default=["reinforce", "relax"])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.03, 0.1, 0.3])
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--eps", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=15_000)
    parser.add_argument("--checkpoints", type=int, default=30, help="along a run")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--output", type=Path, default=Path("permutation_toy.png"))
    parser.add_argument("--no-jit", action="store_true", help="do not compile with XLA")
    arguments = parser.parse_args(argv)
    per_checkpoint = max(1, arguments.steps // arguments.checkpoints)
    steps = per_checkpoint * np.arange(arguments.checkpoints + 1)

    result: dict[str, dict[float, np.ndarray]] = {}
    with tqdm(total=len(arguments.estimators) * len(arguments.rates) * arguments.seeds) as bar:
        for name in arguments.estimators:
            bar.set_description(name)
            toy = Toy(name, arguments.items, arguments.eps, per_checkpoint, not arguments.no_jit)
            result[name] = {}
            for rate in arguments.rates:
                runs = []
                for seed in range(arguments.seeds):
                    runs.append(toy.run(rate, seed, arguments.checkpoints))
                    bar.update()
                result[name][rate] = np.array(runs)
                tqdm.write(f"{name:>14} {rate:6g} " + " ".join(f"{run[-1]:.4f}" for run in runs))

    start = gap(np.zeros(arguments.items), arguments.eps)
    print(f"\nobjective minus optimum, {start:.3f} at the start")
    heads = f"{'mean at end':>12} {'worst':>7} {'seeds within .02 at step':>26}"
    print(f"{'estimator':>14} {'rate':>6} {heads}")
    best = {}
    for name, by_rate in result.items():
        best[name] = min(by_rate, key=lambda rate: by_rate[rate][:, -1].mean())
        for rate, runs in by_rate.items():
            first = [int(steps[np.argmax(run <= ENOUGH)]) for run in runs if run.min() <= ENOUGH]
            reached = f"{len(first)} of {len(runs)}" + (
                f", {np.median(first):.0f}" if first else ""
            )
            mark = " <- best" if rate == best[name] else ""
            mean, worst = runs[:, -1].mean(), runs[:, -1].max()
            print(f"{name:>14} {rate:>6g} {mean:12.4f} {worst:7.4f} {reached:>26}{mark}")
    curves = {name: by_rate[best[name]] for name, by_rate in result.items()}
    plot(curves, steps, best, arguments.output)
    return result


if __name__ == "__main__":
    main()
