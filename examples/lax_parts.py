r"""The parts of the LAX gradient: two noisy estimates that cancel, and a quiet one that stays.

One normal unit b = mu + sigma eps with parameters a = [mu, log sigma], which stay fixed, and

    E[f(b)] = E[(b - t)^2] = sigma^2 + (mu - t)^2,      t = .499.

A square, because then the exact gradient is known, [2 (mu - t), 2 sigma^2], and because the noise
of REINFORCE is all too visible: f is large where the score is. The surrogate c(b) is a network that
never looks at f or at its derivative, so f might as well be a black box. It learns by descending
the variance of the sum of both components of

    g = f(b) s - c(b) s + dc(b)/db db/da,      s = d log p(b | a)/da.

What to look at: the histograms of the parts over samples of b, one row per component of g. A row
has one scale, logarithmic in the density, on which even rare values show.

(a) REINFORCE of f, f(b) s. Its mean is the exact gradient (the line), its standard deviation is
    4 to 5 times as large, and its peak is at 0.
(b) The reparameterised gradient of c. It has a fifth or a tenth of that variance, and a bias: it is
    the gradient of E[c], not of E[f].
(c) Minus REINFORCE of c, -c(b) s. It takes that bias away again, as its mean is minus that of (b);
    by itself it is the noisiest of all.
(d) Their sum, LAX. What is noise in one part is cancelled by the others: the variance is 100 times
    smaller than that of (a) or better, and all but a few samples are near the exact gradient.

No c makes both components constant (unless mu = t, where c = f + 2 sigma^2 does). The variance
that is left is mostly that of log sigma.
Grathwohl et al. (2018), arXiv:1711.00123, equation 6 and figure 2.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import common
import tf_relax
from tf_relax.surrogates import is_surrogate_variable

T = 0.499
BATCH = 100
LEARNING_RATE = 0.01
CHUNKS = 50  # updates of the progress bar
COMPONENTS = ("mu", "log sigma")
TITLES = {
    "reinforce": "(a) REINFORCE of f: f(b) s",
    "pathwise": "(b) reparameterised c: dc(b)/da",
    "score": "(c) minus REINFORCE of c: −c(b) s",
    "lax": "(d) LAX: (a) + (b) + (c)",
}
MEAN = {"color": "black", "markeredgecolor": "white", "markersize": 9, "label": "mean"}
COLORS = {"reinforce": common.RED, "pathwise": common.SKY, "score": common.BLUE}
COLORS["lax"] = common.GREEN


class Parts(NamedTuple):
    """The parts of LAX, `[samples, 2]`: in mu and in log sigma."""

    reinforce: np.ndarray
    pathwise: np.ndarray
    score: np.ndarray

    @property
    def lax(self) -> np.ndarray:
        """The estimate."""
        return self.reinforce + self.pathwise + self.score


def build_model(mean: float, log_sigma: float) -> tf_relax.RelaxModel:
    """Returns a normal unit with two trainable parameters."""
    one = keras.Input((1,))  # always 1, so the kernel holds the parameters
    parameters = keras.layers.Dense(2, use_bias=False, name="parameters")(one)
    network = tf_relax.surrogates.Network(units=(50, 50), activation="tanh", looks_at=())
    unit = tf_relax.layers.RelaxNormal(name="unit")(parameters)
    model = tf_relax.RelaxModel(one, unit)
    model.get_layer("parameters").kernel.assign([[mean, log_sigma]])
    model.compile(loss="mse", estimator=tf_relax.estimators.Lax(surrogate=network))
    return model


def data(batch: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns inputs and targets: every example is the same."""
    return tf.ones((batch, 1)), tf.fill((batch, 1), T)


def exact_gradient(model: tf_relax.RelaxModel) -> np.ndarray:
    """Returns the gradient of E[f] in mu and log sigma."""
    mean, log_sigma = model.get_layer("parameters").kernel.numpy()[0].astype("float64")
    return np.array([2 * (mean - T), 2 * np.exp(2 * log_sigma)])


def train_surrogate(model: tf_relax.RelaxModel, steps: int, jit_compile: bool) -> None:
    """Trains the surrogate and nothing else."""
    # A rate that falls to 0 takes the last of the noise out of the surrogate.
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps))
    variables = [v for v in model.trained_variables if is_surrogate_variable(v)]
    optimizer.build(variables)

    def learn(steps: tf.Tensor) -> None:
        def step(i: tf.Tensor) -> tf.Tensor:
            differentiated = model.differentiate(*data(BATCH))
            pairs = zip(differentiated.gradients, differentiated.variables, strict=True)
            optimizer.apply([g for g, v in pairs if is_surrogate_variable(v)], variables)
            return i + 1

        tf.while_loop(lambda i: i < steps, step, [tf.constant(0)])

    learn = tf.function(learn, jit_compile=jit_compile, autograph=False)
    chunks = np.diff(np.unique(np.linspace(0, steps, CHUNKS + 1).round().astype(int)))
    with tqdm(total=steps, unit="step", unit_scale=True, desc="surrogate") as progress:
        for chunk in chunks:
            learn(tf.constant(chunk, tf.int32))
            progress.update(int(chunk))


def parts(model: tf_relax.RelaxModel, noise: tf.Tensor) -> Parts:
    """Returns the parts of the estimate that `model.differentiate` makes of noise, `[batch, 1]`."""
    x, y = data(len(noise))
    with tf_relax.record(noise=[noise]) as sites:
        b = model(x, training=True)
    (site,) = sites
    relaxation = site.layer.relaxation
    f = tf.square(b - y)
    with tf.GradientTape() as tape:
        tape.watch(site.z)
        c = model.estimator_state["unit"].surrogate(site.z)
    derivative = tape.gradient(c, site.z)
    score = relaxation.score(site.logits, site.draw)
    return Parts(
        reinforce=(f * score).numpy(),
        pathwise=relaxation.vjp(site.logits, site.draw, derivative).numpy(),
        score=(-c[:, None] * score).numpy(),
    )


def print_table(found: Parts, exact: np.ndarray) -> None:
    """Prints the mean and the variance of every part, per component."""
    for k, component in enumerate(COMPONENTS):
        print(f"\ngradient in {component}: exactly {exact[k]:.4f}")
        print(f"{'part':<38} {'mean':>9} {'error':>8} {'variance':>10}")
        for name, title in TITLES.items():
            samples = getattr(found, name)[:, k].astype("float64")
            mean, variance = samples.mean(), samples.var()
            error = np.sqrt(variance / len(samples))
            print(f"{title:<38} {mean:9.4f} {error:8.4f} {variance:10.4f}")


def plot(found: Parts, exact: np.ndarray, path: Path) -> None:
    """Draws one row of histograms per component of the gradient."""
    figure, grid = common.figure(len(COMPONENTS), len(TITLES), width=3.75, height=3.2)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    for k, (row, symbol) in enumerate(zip(grid, ("μ", "log σ"), strict=True)):
        # What lies outside of the middle 99 % of (a) would squeeze the rest.
        low, high = np.quantile(found.reinforce[:, k], [0.005, 0.995])
        low, high = min(low, -high), max(high, -low)
        bins = np.linspace(low, high, 201)
        for axes, (name, title) in zip(row, TITLES.items(), strict=True):
            samples = getattr(found, name)[:, k]
            if axes is not row[0]:
                axes.sharey(row[0])
                axes.tick_params(labelleft=False)
            axes.hist(samples, bins, color=COLORS[name], density=True, log=True)
            axes.axvline(exact[k], color="black", linewidth=1, label="exact gradient")
            axes.plot(*(samples.mean(), 0.025), "^", transform=axes.get_xaxis_transform(), **MEAN)
            axes.set_title(f"{title}\nvariance {samples.var():.3g}", fontsize=10)
            axes.set(xlabel=f"gradient in {symbol}", xlim=(low, high))
        row[0].set(ylabel="density")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    common.save(figure, path)


def main(argv: Sequence[str] | None = None) -> tuple[Parts, np.ndarray]:
    """Runs the command line and returns the parts and the exact gradient."""
    parser = common.parser(__doc__, output="lax_parts.png")
    parser.add_argument("--mean", type=float, default=0.0, help="mu")
    parser.add_argument("--log-sigma", type=float, default=0.0, help="log sigma")
    parser.add_argument("--steps", type=int, default=10_000, help="steps of the surrogate")
    parser.add_argument("--samples", type=int, default=100_000, help="in the histograms")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    start = time.perf_counter()
    keras.utils.set_random_seed(args.seed)
    model = build_model(args.mean, args.log_sigma)
    train_surrogate(model, args.steps, not args.no_jit)
    noise = np.random.default_rng(args.seed).normal(size=(args.samples, 1)).astype("float32")
    found, exact = parts(model, noise), exact_gradient(model)
    print_table(found, exact)
    plot(found, exact, args.output)
    print(f"\n{time.perf_counter() - start:.0f} s. Figure: {args.output}")
    return found, exact


if __name__ == "__main__":
    common.run(main, resumes=False)
