r"""Why REBAR's surrogate cannot do what RELAX's can: one coin, its logit held fixed.

The problem is that of `toy.py`, E[(b - t)^2] over one Bernoulli unit with logit a, but a stays
where it is and only the surrogates learn: eta and lambda of REBAR's c(z) = eta f(sigma(z/lambda)),
and RELAX's c(z), a small network. Both descend the variance of the coupled estimate

    g(z) = [f(b) - c(z)] s + (1 - dz~/da) dc(z)/dz,      b = 1[z > 0],  s = d log p(b | a) / da,

a function of the noise alone. The exact gradient is (1 - 2t) P (1 - P), with P = sigmoid(a).

What to look at, from left to right in the figure (one row per target):

1. The surrogates; the darker the background, the more probable is z. No noise at all is left by
   the constant c = (1-P) f(1) + P f(0), and that is where RELAX's network goes. REBAR's falls to 0
   at z = lambda logit(t), hence near 0. All it can learn is to turn it off: eta = 0. What it would
   do otherwise is shown as "fixed", eta = 1 and lambda = 1/2.
2. The estimate that each makes of a single value of the noise. REINFORCE's, f(b) s, is positive for
   every b = 1 and negative for every b = 0: always wrong on one of the two sides and far off on
   both. Learned, REBAR's is the same. Fixed, it is smaller far from 0 and larger near 0, with half
   as much variance again, and as often wrong in its sign (or nearly, for other logits).
3. The same from nearby: RELAX's estimate lies on the exact gradient, so that a single sample is
   consistent (it hardly depends on the noise) and correct. The others cross it, if at all.

The table says the same in numbers, by quadrature over the noise. Grathwohl et al. (2018),
arXiv:1711.00123, section 5.1 and figure 3.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from tqdm import tqdm

import common
import tf_relax
import toy
from tf_relax.surrogates import is_surrogate_variable

BATCH = 100
LEARNING_RATE = 0.01
CHUNKS = 50  # updates of the progress bar
Z = np.linspace(-6.0, 6.0, 600, dtype="float32")  # even: neither a point nor its middle is at 0
FIXED = "rebar, fixed"
ESTIMATORS = ("reinforce", "rebar", FIXED, "relax")
FIXED_TEMPERATURE = 0.5
EXACT = {"color": "black", "linewidth": 1, "linestyle": (0, (4, 4))}
STYLES = {**toy.STYLES, FIXED: {"color": common.SKY, "linestyle": common.MIXED}}
STYLES["reinforce"] = {**STYLES["reinforce"], "zorder": 3}  # REBAR's learned estimate is the same


class Analysis(NamedTuple):
    """One estimator at one target, its surrogate trained.

    Attributes:
        surrogate: c at `Z`.
        gradient: g at `Z`.
        exact: the gradient.
        mean: of g over the noise.
        variance: of g over the noise.
        right: probability of noise for which g has the sign of the gradient.
        scale: eta, where c is REBAR's, otherwise `None`.
        temperature: lambda, where c is REBAR's, otherwise `None`.
    """

    surrogate: np.ndarray
    gradient: np.ndarray
    exact: float
    mean: float
    variance: float
    right: float
    scale: float | None
    temperature: float | None


class Fixed:
    """A coin with a fixed logit, and one estimator whose surrogate learns."""

    def __init__(self, estimator: str, t: float, logit: float, steps: int, jit_compile: bool):
        self.estimator = estimator
        self.t = t
        self.model = toy.build_model()
        chosen = (
            tf_relax.estimators.Rebar(temperature=FIXED_TEMPERATURE)
            if estimator == FIXED
            else toy.build_estimator(estimator)
        )
        self.model.compile(loss="mse", estimator=chosen)
        self.learned = self.model.estimator_state["coin"]
        self.coin = self.model.get_layer("coin")
        self.logit = self.model.get_layer("logit").kernel
        self.logit.assign([[logit]])
        # A rate that falls to 0 takes the last of the noise out of the surrogate.
        rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
        self.optimizer = keras.optimizers.Adam(rate)
        self.variables = [v for v in self.model.trained_variables if is_surrogate_variable(v)]
        if estimator == FIXED:
            self.variables = []
        self.optimizer.build(self.variables)
        self.learn = tf.function(self._learn, jit_compile=jit_compile, autograph=False)

    def _learn(self, steps: tf.Tensor) -> None:
        """Trains the surrogate and nothing else for a number of steps."""

        def step(i: tf.Tensor) -> tf.Tensor:
            differentiated = self.model.differentiate(*toy.data(self.t, BATCH))
            pairs = zip(differentiated.gradients, differentiated.variables, strict=True)
            gradients = [g for g, v in pairs if is_surrogate_variable(v)]
            self.optimizer.apply(gradients, self.variables)
            return i + 1

        tf.while_loop(lambda i: i < steps, step, [tf.constant(0)])

    def gradient(self, noise: tf.Tensor) -> np.ndarray:
        """Returns g for every noise value, `[batch, 1]`."""
        step = self.model.differentiate(*toy.data(self.t, len(noise)), noise=[noise])
        return step.logit_gradients[0][:, 0].numpy()

    def surrogate(self) -> np.ndarray:
        """Returns c at `Z`: 0 for REINFORCE, which has none."""
        z = Z[:, None]
        if self.estimator == "relax":
            return self.learned.surrogate(z, tf.fill(z.shape, self.logit.value[0, 0])).numpy()
        if self.estimator == "reinforce":
            return np.zeros_like(Z)
        relaxed = self.coin.relaxed_output(z, self.learned.temperature)
        return float(self.learned.scale.value) * f(relaxed[:, 0].numpy(), self.t)

    def analyse(self) -> Analysis:
        """Returns g over the noise, as it is now."""
        a = self.logit.value[0, 0]
        p = 1 / (1 + np.exp(-float(a)))
        exact = (1 - 2 * self.t) * p * (1 - p)
        noise, weights = toy.stratified(a)
        g, weights = self.gradient(noise).astype("float64"), weights.numpy().astype("float64")
        mean = np.sum(weights * g)
        of_rebar = self.estimator in ("rebar", FIXED)
        return Analysis(
            surrogate=self.surrogate(),
            gradient=self.gradient(Z[:, None] - a),
            exact=exact,
            mean=mean,
            variance=np.sum(weights * (g - mean) ** 2),
            right=np.sum(weights[np.sign(g) == np.sign(exact)]),
            scale=float(self.learned.scale.value) if of_rebar else None,
            temperature=float(self.learned.temperature) if of_rebar else None,
        )


def f(b: np.ndarray, t: float) -> np.ndarray:
    """Returns the objective."""
    return (b - t) ** 2


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(-z))."""
    return 1 / (1 + np.exp(-z))


def print_table(t: float, analyses: dict[str, Analysis]) -> None:
    """Prints what the noise makes of the gradient."""
    print(f"\nt = {t:g}: g over the noise")
    header = f"{'variance of g':>14} {'mean of g':>11} {'exact':>11} {'sign right':>11}"
    print(f"{'estimator':<14} {header} {'eta':>8} {'lambda':>8}")
    for estimator, one in analyses.items():
        cells = f"{one.variance:14.3e} {one.mean:11.7f} {one.exact:11.7f} {one.right:11.1%}"
        if estimator in ("rebar", FIXED):
            cells += f" {one.scale:8.4f} {one.temperature:8.3f}"
        print(f"{estimator:<14} {cells}")


def plot(results: dict[float, dict[str, Analysis]], logit: float, path: Path) -> None:
    """Draws one row per target: surrogates, estimates, and the estimates from nearby."""
    figure, grid = common.figure(len(results), 3, width=5, height=4.2)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    for (left, middle, right), (t, analyses) in zip(grid, results.items(), strict=True):
        relaxed = left.plot(Z, f(sigmoid(Z), t), color="0.4", linewidth=1.2, label="f(σ(z))")
        exact = analyses["relax"].exact
        for estimator, one in analyses.items():
            style = {"label": estimator.upper(), "linewidth": 2.5, **STYLES[estimator]}
            if estimator != "reinforce":
                left.plot(Z, one.surrogate, **style)
            for axes in (middle, right):
                # In two pieces: g jumps where b does.
                for side in (Z < 0, Z > 0):
                    axes.plot(Z[side], one.gradient[side], **style)
        for axes in (middle, right):
            line = axes.axhline(exact, label="exact gradient", **EXACT)
        half = 3 * abs(exact) or 1.0
        right.set_ylim(exact - half, exact + half)
        left.set(title=f"Surrogates, t = {t:g}", xlabel="z", ylabel="c(z)")
        middle.set(title=f"Estimates, t = {t:g}", xlabel="z", ylabel="g(z)")
        right.set(title=f"Estimates near the exact gradient, t = {t:g}", xlabel="z", ylabel="g(z)")
        for axes in (left, middle, right):
            shade(axes, logit)
    handles = [line, *relaxed, *unique(middle)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    common.save(figure, path)


def shade(axes: Axes, logit: float) -> None:
    """Shades the background by the density of z."""
    p = sigmoid(Z - logit)
    density = (p * (1 - p))[None]
    low, high = axes.get_ylim()
    axes.imshow(
        density,
        extent=(Z[0], Z[-1], low, high),
        aspect="auto",
        cmap="Greys",
        vmin=0,
        vmax=1,
        zorder=0,
    )
    axes.set(xlim=(Z[0], Z[-1]), ylim=(low, high))


def unique(axes: Axes) -> list:
    """Returns one line of every estimator's."""
    lines = {line.get_label(): line for line in axes.get_lines()}
    return [lines[estimator.upper()] for estimator in ESTIMATORS]


def main(argv: Sequence[str] | None = None) -> dict[float, dict[str, Analysis]]:
    """Runs the command line and returns target -> estimator -> analysis."""
    parser = common.parser(__doc__, output="surrogate_analysis.png")
    parser.add_argument("--t", type=float, nargs="+", default=[0.45, 0.499], help="targets")
    parser.add_argument("--logit", type=float, default=0.0, help="the logit a that stays fixed")
    parser.add_argument("--steps", type=int, default=10_000, help="steps of the surrogates")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    start = time.perf_counter()
    results: dict[float, dict[str, Analysis]] = {t: {} for t in args.t}
    chunks = np.diff(np.unique(np.linspace(0, args.steps, CHUNKS + 1).round().astype(int)))
    total = len(args.t) * 2 * args.steps
    with tqdm(total=total, unit="step", unit_scale=True) as progress:
        for t in args.t:
            for estimator in ESTIMATORS:
                progress.set_description(f"{estimator}, t = {t:g}")
                keras.utils.set_random_seed(args.seed)
                fixed = Fixed(estimator, t, args.logit, args.steps, not args.no_jit)
                for steps in chunks if fixed.variables else ():
                    fixed.learn(tf.constant(steps, tf.int32))
                    progress.update(int(steps))
                results[t][estimator] = fixed.analyse()
    for t, analyses in results.items():
        print_table(t, analyses)
    plot(results, args.logit, args.output)
    print(f"\n{time.perf_counter() - start:.0f} s. Figure: {args.output}")
    return results


if __name__ == "__main__":
    common.run(main, resumes=False)
