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

`--estimators all` adds every other estimator of a coin's gradient, without the bands. A problem
whose best surrogate is a constant is easy for any that find the constant, and at t = .499 they
bring P to 0 too: NVIL with the running mean of f, and all that hold several samples against each
other, at several evaluations of f per step (column `evals`). DLAX's variance is a fifth of
REINFORCE's, MuProp's and ReinMax's is larger: they random-walk as well. Biased ones hover where
their own expectation vanishes: straight-through around P = t. The last columns tell them apart:
whether an estimator says that it is unbiased, and a z-score of its mean after a tenth of the steps
against the true gradient, as the root mean square over seeds: about 1 without bias, tens with it.
ReinMax is biased in general, but not for an f that is quadratic as here. A log-variance below -36
is 0 to rounding.

`python examples/toy.py --seeds 20` takes a minute or two. References: Grathwohl et al. (2018),
arXiv:1711.00123, section 5.1; for t = .45 Tucker et al. (2017), arXiv:1703.07370, section 4.1.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import common
import tf_relax
from toy_results import Run, Z, plot, print_table, tenth

LEARNING_RATE = 0.01
NODES = 10_000  # noise values behind every variance
BATCHES = 20  # of NODES draws each, behind every check of the mean
ROUNDING = 1e-8  # what float32 leaves of f(1) - f(0) = 1 - 2t, times the largest P (1 - P)
CHECKPOINTS = 100  # measurements along a run
ESTIMATORS = ["reinforce", "rebar", "relax", "nvil", "leave_one_out", "dlax", "muprop", "double_cv"]
ESTIMATORS += ["rodeo", "disarm", "arms", "exact", "concrete", "straight_through"]
ESTIMATORS += ["gumbel_straight_through", "reinmax"]
STYLES = {name: common.STYLES[name] for name in ESTIMATORS}
PAPER = ["reinforce", "rebar", "relax"]
LEARNERS = {  # those with a network
    "relax": tf_relax.estimators.Relax,
    "dlax": tf_relax.estimators.Dlax,
    "nvil": tf_relax.estimators.Nvil,
}


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
            estimator=build_estimator(estimator),
            jit_compile=jit_compile,
        )
        self.model.optimizer.build(self.model.trained_variables)
        self.optimizer_start = [v.numpy() for v in self.model.optimizer.variables]
        self.coin = self.model.get_layer("coin")
        self.logit = self.model.get_layer("logit").kernel
        self.learned = self.model.estimator_state
        self.advance = tf.function(self._advance, jit_compile=jit_compile, autograph=False)
        self.measure = tf.function(self._measure, jit_compile=jit_compile, autograph=False)
        self.check = tf.function(self._check, jit_compile=jit_compile, autograph=False)
        self.evaluations = 0  # per step, counted when `measure` is traced

    def restart(self, seed: int) -> None:
        """Returns to the state of a new model, with a new network and new noise per seed."""
        keras.utils.set_random_seed(seed)
        new = build_model()
        new.compile(None, loss="mse", estimator=build_estimator(self.estimator))
        self.model.set_weights(new.get_weights())
        for variable, start in zip(
            self.learned.variables, new.estimator_state.variables, strict=True
        ):
            variable.assign(start)
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

        One sample is made of one noise value, for which `stratified` serves. Several samples need
        noise in as many dimensions, which the layer draws: where P is so small that no sample
        differs from the others, their variance is 0 instead of small. It is cut off at rounding.
        """
        a = self.logit.value[0, 0]
        noise, weights = stratified(a)
        several = self.model.estimator.num_noises > 1
        with self.unchanged():
            step = self.model.differentiate(*data(t, NODES), noise=None if several else [noise])
        self.evaluations = step.evaluations
        g = step.logit_gradients[0][:, 0]
        if several:
            weights = tf.ones_like(g) / NODES
        mean = tf.reduce_sum(weights * g)
        variance = tf.reduce_sum(weights * tf.square(g - mean))
        return tf.sigmoid(a), tf.math.log(tf.maximum(variance, ROUNDING**2))

    def _check(self, t: tf.Tensor) -> tf.Tensor:
        """Returns the z-score of the mean of 200,000 gradients, everything learned held fixed.

        NaN where P is so near 0 or 1 that these draws are too few to tell.
        """
        p = tf.sigmoid(tf.cast(self.logit.value[0, 0], tf.float64))
        exact = (1 - 2 * tf.cast(t, tf.float64)) * p * (1 - p)

        def batch(i: tf.Tensor, total: tf.Tensor, squares: tf.Tensor) -> tuple[tf.Tensor, ...]:
            step = self.model.differentiate(*data(t, NODES))
            error = tf.cast(step.logit_gradients[0], tf.float64) - exact
            return i + 1, total + tf.reduce_sum(error), squares + tf.reduce_sum(error**2)

        zero = tf.zeros((), tf.float64)
        with self.unchanged():
            _, total, squares = tf.while_loop(lambda i, *_: i < BATCHES, batch, [0, zero, zero])
        draws = BATCHES * NODES
        mean = total / draws
        variance = (squares / draws - mean**2) / draws
        z_score = mean / tf.sqrt(tf.maximum(variance, 0) + ROUNDING**2)
        enough = draws * p * (1 - p) >= 100
        return tf.where(enough, z_score, tf.constant(math.nan, tf.float64))

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Takes back what a gradient moves: random numbers, running means of the objective."""
        variables = [*self.coin.non_trainable_variables, *self.learned.non_trainable_variables]
        before = [tf.identity(variable.value) for variable in variables]
        yield
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)

    def surrogate(self, t: float) -> np.ndarray:
        """Returns c at `Z`: 0 for the estimators that have none."""
        z, learned = Z[:, None], self.learned["coin"]
        if self.estimator in ("relax", "dlax"):
            return learned.surrogate(z, tf.fill(z.shape, self.logit.value[0, 0])).numpy()
        if self.estimator != "rebar":
            return np.zeros_like(Z)
        relaxed = self.coin.relaxed_output(z, learned.temperature)
        return (learned.scale.value * (relaxed[:, 0] - t) ** 2).numpy()


def build_model() -> tf_relax.RelaxModel:
    """Returns one trainable logit, 0 at first, and the unit that it drives."""
    one = keras.Input((1,))  # always 1, so the kernel is the logit
    logit = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="logit")(one)
    coin = tf_relax.layers.RelaxBernoulli(name="coin")(logit)
    return tf_relax.RelaxModel(one, coin)


def build_estimator(name: str) -> tf_relax.estimators.Estimator:
    """Returns an estimator with its default arguments, but for the surrogate."""
    if name not in LEARNERS:
        return tf_relax.estimators.get(name)  # REBAR starts from its default eta and temperature
    # The network alone: the surrogate to find is flat, and f(sigma(z / lambda)), which is added by
    # default, would first have to be unlearned. At t = .499 P ends at .03 without it and at .07
    # with it. More units change nothing; tanh needs a lower learning rate (.09, at .003 .03).
    network = tf_relax.surrogates.Network(units=(10,), activation="relu")
    return LEARNERS[name](surrogate=network)


def data(t: tf.Tensor, batch: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns inputs and targets: every example is the same."""
    return tf.ones((batch, 1)), tf.fill((batch, 1), t)


def stratified(a: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns NODES noise values, `[NODES, 1]`, for a logit, and their weights, which sum to 1.

    Half of the noise gives b = 1, half b = 0, evenly spaced in probability, and each half has
    its probability as weight. Independent draws agree, unless P is so small that none is a 1.
    """
    p = tf.stack([tf.sigmoid(a), tf.sigmoid(-a)])  # of b = 1 and of b = 0
    nodes = (tf.range(NODES // 2, dtype=tf.float32) + 0.5) / (NODES // 2)
    tail = p[:, None] * nodes  # probability of noise further out; logistic noise is symmetric
    noise = [[1.0], [-1.0]] * (tf.math.log1p(-tail) - tf.math.log(tail))
    return tf.reshape(noise, (NODES, 1)), tf.repeat(p / (NODES // 2), NODES // 2)


def train(toy: Toy, t: float, checkpoints: np.ndarray, seed: int, progress: tqdm) -> Run:
    """Trains from the start and measures at every checkpoint, the first of which is step 0."""
    target = tf.constant(t, tf.float32)
    toy.restart(seed)
    measured = [toy.measure(target)]
    for i, steps in enumerate(np.diff(checkpoints), start=1):
        toy.advance(target, tf.constant(steps, tf.int32))
        measured.append(toy.measure(target))
        if i == tenth(checkpoints):
            surrogate, z_score = toy.surrogate(t), float(toy.check(target))
        progress.update(int(steps))
    return Run(*np.array(measured).T, surrogate, z_score, toy.evaluations)


def main(argv: Sequence[str] | None = None) -> dict[float, dict[str, list[Run]]]:
    """Runs the command line and returns target -> estimator -> runs."""
    parser = common.parser(__doc__, output="toy.png", seeds=5)
    parser.add_argument("--t", type=float, nargs="+", default=[0.45, 0.499], help="targets")
    parser.add_argument(
        "--estimators",
        nargs="+",
        choices=[*STYLES, "all"],
        default=PAPER,
        metavar="NAME",
        help=f"{', '.join(STYLES)}, or all of them. Left out are lax and reparameterization, which "
        "differentiate the sample itself, where a coin has no derivative, and vimco, which is for "
        "the logarithm of a mean over samples (default: those of the paper's figure)",
    )
    parser.add_argument("--steps", type=int, default=10_000, help="iterations per run")
    args = parser.parse_args(argv)
    estimators = list(STYLES) if "all" in args.estimators else args.estimators

    start = time.perf_counter()
    checkpoints = np.unique(np.linspace(0, args.steps, CHECKPOINTS + 1).round().astype(int))
    results: dict[float, dict[str, list[Run]]] = {t: {} for t in args.t}
    total = len(args.t) * len(estimators) * args.seeds * args.steps
    with tqdm(total=total, unit="step", unit_scale=True) as progress:
        for estimator in estimators:
            progress.set_description(estimator)
            toy = Toy(estimator, jit_compile=not args.no_jit)
            for t in args.t:
                results[t][estimator] = [
                    train(toy, t, checkpoints, seed, progress) for seed in range(args.seeds)
                ]
    for t, runs in results.items():
        print_table(t, runs)
    plot(results, checkpoints, args.output)
    seconds = time.perf_counter() - start
    print(f"\n{args.seeds} seeds, {args.steps} steps each: {seconds:.0f} s. Figure: {args.output}")
    return results


if __name__ == "__main__":
    common.run(main, resumes=False)
