r"""The toy problem of the RELAX paper: one coin, and a signal far below the noise.

Minimise the expected squared distance of one Bernoulli unit from a target t just below 1/2,

    L(a) = E[(b - t)^2] = t^2 + (1 - 2t) P,      b ~ Bernoulli(P),  P = sigmoid(a),

over its logit a, one sample per step. The optimum is P = 0. At t = .499 the true gradient,
dL/da = (1 - 2t) P (1 - P), is at most .0005, and a single REINFORCE estimate starts at +-.125.

    REINFORCE   g = f(b) s                                        s = d log p(b | a) / da
    REBAR       g = [f(b) - c(z~)] s + dc(z)/da - dc(z~)/da       c(z) = eta f(sigma(z / lambda))
    RELAX       the same g                                        c(z) = a small network

REBAR learns eta and lambda and RELAX its network, both by descending the variance of g.

What to look at, from left to right in the figure (one row per target; lines are medians over seeds
and bands hold the middle 80 % of them):

1. Training curves. At t = .45 all three get there. At t = .499 only RELAX brings P to 0; the others
   random-walk around 1/2, some seeds to the wrong end.
2. The log-variance of g says why: at t = .499 RELAX's variance is typically 10,000 times smaller.
3. The surrogates. A single unit has no noise at all with the constant c = (1-P) f(1) + P f(0), and
   that is where RELAX's network goes. f(sigma(z / lambda)) has about the right height on both sides
   but falls to 0 in between. No lambda from .02 to 5 saves more than 5 % of the variance (by
   quadrature, with the best eta for each), so REBAR learns eta = 0, which is REINFORCE.

`python examples/toy.py --seeds 20` takes a minute or two. References: Grathwohl et al. (2018),
arXiv:1711.00123, section 5.1; for t = .45 Tucker et al. (2017), arXiv:1703.07370, section 4.1.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

import tf_relax

LEARNING_RATE = 0.01
NODES = 10_000  # noise values behind every variance
CHECKPOINTS = 100  # measurements along a run
Z = np.linspace(-8.0, 8.0, 401, dtype="float32")
# Okabe and Ito's colours stay apart under colour blindness, and the dashes even without colour.
STYLES = {
    "reinforce": {"color": "#D55E00", "linestyle": ":"},
    "rebar": {"color": "#0072B2", "linestyle": "--"},
    "relax": {"color": "#009E73", "linestyle": "-"},
}


class Run(NamedTuple):
    """One seed: what was measured at the checkpoints, and c at `Z` at an early one."""

    probability: np.ndarray
    log_variance: np.ndarray
    surrogate: np.ndarray


class Toy:
    """The model under one estimator, compiled once and restarted for every seed and target.

    `fit` would train it just as well, but a step is so small here that its time would nearly all be
    overhead: a loop over the same `train_step`, compiled as a whole, is 30 times faster.
    """

    def __init__(self, estimator: str, jit_compile: bool = True):
        self.estimator = estimator
        self.model = build_model()
        self.model.compile(
            optimizer=tf_relax.RelaxOptimizer(
                keras.optimizers.Adam(LEARNING_RATE),
                surrogate_optimizer=keras.optimizers.Adam(LEARNING_RATE, name="surrogate_adam"),
            ),
            loss="mse",
            estimator=estimator,
            jit_compile=jit_compile,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.optimizer_start = [v.numpy() for v in self.model.optimizer.variables]
        self.coin = self.model.get_layer("coin")
        self.logit = self.model.get_layer("logit").kernel
        self.advance = tf.function(self._advance, jit_compile=jit_compile, autograph=False)
        self.measure = tf.function(self._measure, jit_compile=jit_compile, autograph=False)

    def restart(self, seed: int) -> None:
        """Returns to the state of a new model, with a new network and new noise per seed."""
        keras.utils.set_random_seed(seed)
        self.model.set_weights(build_model().get_weights())
        self.model.optimizer.set_weights(self.optimizer_start)
        self.coin.seed_generator.state.assign([seed, 0])

    def _advance(self, t: tf.Tensor, steps: tf.Tensor) -> None:
        """Trains for a number of steps on batches of one."""

        def step(i: tf.Tensor) -> tf.Tensor:
            self.model.train_step(data(t, 1))
            return i + 1

        tf.while_loop(lambda i: i < steps, step, [tf.constant(0)])

    def _measure(self, t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns P(b = 1) and the log-variance of the gradient, everything learned held fixed.

        Half of the noise gives b = 1, half b = 0, evenly spaced in probability, and each half has
        its probability as weight. Independent draws agree, unless P is so small that none is a 1.
        """
        a = self.logit.value[0, 0]
        p = tf.stack([tf.sigmoid(a), tf.sigmoid(-a)])  # of b = 1 and of b = 0
        nodes = (tf.range(NODES // 2, dtype=tf.float32) + 0.5) / (NODES // 2)
        tail = p[:, None] * nodes  # probability of noise further out; logistic noise is symmetric
        noise = [[1.0], [-1.0]] * (tf.math.log1p(-tail) - tf.math.log(tail))
        step = self.model.differentiate(*data(t, NODES), noise=[tf.reshape(noise, (NODES, 1))])
        g = tf.reshape(step.estimate.gradients[0], (2, NODES // 2))
        mean = tf.reduce_sum(p * tf.reduce_mean(g, axis=1))
        variance = tf.reduce_sum(p * tf.reduce_mean(tf.square(g - mean), axis=1))
        return p[0], tf.math.log(variance)

    def surrogate(self, t: float) -> np.ndarray:
        """Returns c at `Z`: 0 for REINFORCE, which has none."""
        z = Z[:, None]
        if self.estimator == "relax":
            return self.coin.surrogate(z, tf.fill(z.shape, self.logit.value[0, 0])).numpy()
        scale = self.coin.scale.value if self.estimator == "rebar" else 0.0
        return (scale * (self.coin.relaxed_output(z)[:, 0] - t) ** 2).numpy()


def build_model() -> tf_relax.RelaxModel:
    """Returns one trainable logit, 0 at first, and the unit that it drives."""
    one = keras.Input((1,))  # always 1, so the kernel is the logit
    logit = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="logit")(one)
    # The network alone: the surrogate to find is flat, and f(sigma(z / lambda)), which the layer
    # adds by default, would first have to be unlearned. At t = .499 P ends at .03 without it and at
    # .07 with it. More units change nothing; tanh needs a lower learning rate (.09, at .003 .03).
    network = tf_relax.surrogates.Network(units=(10,), activation="relu")
    # Only RELAX uses it. REBAR starts from the layer's default eta and temperature.
    coin = tf_relax.layers.RelaxBernoulli(surrogate=network, name="coin")(logit)
    return tf_relax.RelaxModel(one, coin)


def data(t: tf.Tensor, batch: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns inputs and targets: every example is the same."""
    return tf.ones((batch, 1)), tf.fill((batch, 1), t)


def train(toy: Toy, t: float, checkpoints: np.ndarray, seed: int, progress: tqdm) -> Run:
    """Trains from the start and measures at every checkpoint, the first of which is step 0."""
    target = tf.constant(t, tf.float32)
    toy.restart(seed)
    measured = [toy.measure(target)]
    for i, steps in enumerate(np.diff(checkpoints), start=1):
        toy.advance(target, tf.constant(steps, tf.int32))
        measured.append(toy.measure(target))
        if i == tenth(checkpoints):
            surrogate = toy.surrogate(t)
        progress.update(int(steps))
    return Run(*np.array(measured).T, surrogate)


def tenth(checkpoints: np.ndarray) -> int:
    """Returns the checkpoint whose surrogate is shown: early, as c drifts once P is near 0."""
    return max(1, len(checkpoints) // 10)


def print_table(t: float, runs: dict[str, list[Run]]) -> None:
    """Prints where the seeds of one target ended."""
    print(f"\nt = {t:g}: means over the seeds at the last step, and the largest P(b=1)")
    print(f"{'estimator':<10} {'loss':>8} {'P(b=1)':>8} {'largest':>8} {'log-variance':>13}")
    for estimator, seeds in runs.items():
        p = [run.probability[-1] for run in seeds]
        mean, log_variance = np.mean(p), np.mean([run.log_variance[-1] for run in seeds])
        loss = t * t + (1 - 2 * t) * mean
        print(f"{estimator:<10} {loss:8.5f} {mean:8.3f} {max(p):8.3f} {log_variance:13.2f}")


def plot(results: dict[float, dict[str, list[Run]]], checkpoints: np.ndarray, path: str) -> None:
    """Draws one row per target: training curves, log-variance and surrogates."""
    figure = Figure(figsize=(14, 4 * len(results)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    early = checkpoints[tenth(checkpoints)]
    grid = figure.subplots(len(results), 3, squeeze=False)
    for (left, middle, right), (t, runs) in zip(grid, results.items(), strict=True):
        for estimator, seeds in runs.items():
            draw(left, checkpoints, [run.probability for run in seeds], estimator)
            draw(middle, checkpoints, [run.log_variance for run in seeds], estimator)
            if estimator != "reinforce":
                draw(right, Z, [run.surrogate for run in seeds], estimator)
        f = (1 / (1 + np.exp(-Z / 0.5)) - t) ** 2
        relaxed = right.plot(Z, f, color="0.4", linewidth=1.2, label="f(σ(z/λ)) at λ = ½")
        left.set(title=f"Training curves, t = {t:g}", xlabel="iteration", ylabel="P(b = 1)")
        middle.set(title=f"Noise, t = {t:g}", xlabel="iteration", ylabel="log-variance of g")
        right.set(title=f"Surrogates at iteration {early}, t = {t:g}", xlabel="z", ylabel="c(z)")
        for axes in (left, middle, right):
            axes.grid(color="0.9")
            axes.spines[["top", "right"]].set_visible(False)
    handles = [*left.get_lines(), *relaxed]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=120)


def draw(axes: Axes, x: np.ndarray, seeds: list[np.ndarray], estimator: str) -> None:
    """Draws the median over seeds and a band that holds the middle 80 % of them."""
    low, median, high = np.quantile(seeds, [0.1, 0.5, 0.9], axis=0)
    (line,) = axes.plot(x, median, label=estimator.upper(), linewidth=2, **STYLES[estimator])
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def main(argv: Sequence[str] | None = None) -> dict[float, dict[str, list[Run]]]:
    """Runs the command line and returns target -> estimator -> runs."""
    parser = argparse.ArgumentParser(description="RELAX, REBAR and REINFORCE on one coin.")
    parser.add_argument("--t", type=float, nargs="+", default=[0.45, 0.499], help="targets")
    parser.add_argument("--estimators", nargs="+", choices=list(STYLES), default=list(STYLES))
    parser.add_argument("--steps", type=int, default=10_000, help="iterations per run")
    parser.add_argument("--seeds", type=int, default=5, help="runs per target and estimator")
    parser.add_argument("--output", default="toy.png", help="where the figure goes")
    parser.add_argument("--no-jit", action="store_true", help="do not compile with XLA")
    args = parser.parse_args(argv)

    start = time.perf_counter()
    checkpoints = np.unique(np.linspace(0, args.steps, CHECKPOINTS + 1).round().astype(int))
    results: dict[float, dict[str, list[Run]]] = {t: {} for t in args.t}
    total = len(args.t) * len(args.estimators) * args.seeds * args.steps
    with tqdm(total=total, unit="step", unit_scale=True) as progress:
        for estimator in args.estimators:
            progress.set_description(estimator)
            toy = Toy(estimator, jit_compile=not args.no_jit)
            for t in args.t:
                results[t][estimator] = [
                    train(toy, t, checkpoints, seed, progress) for seed in range(args.seeds)
                ]
    for t, runs in results.items():
        print_table(t, runs)
    pathlib.Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    plot(results, checkpoints, args.output)
    seconds = time.perf_counter() - start
    print(f"\n{args.seeds} seeds, {args.steps} steps each: {seconds:.0f} s. Figure: {args.output}")
    return results


if __name__ == "__main__":
    main()
