"""What the runs of `toy.py` came to, as a table and as a figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

import common
import tf_relax

Z = np.linspace(-8.0, 8.0, 401, dtype="float32")
SURROGATES = ["rebar", "relax", "dlax"]  # the estimators with a c(z)


class Run(NamedTuple):
    """One seed: what was measured at the checkpoints, and at an early one c at `Z` and a z-score.

    The z-score is that of the mean gradient, held against the true one. Evaluations of the
    objective, at hard and at relaxed samples, are counted per step.
    """

    probability: np.ndarray
    log_variance: np.ndarray
    surrogate: np.ndarray
    z_score: float
    evaluations: int


def tenth(checkpoints: np.ndarray) -> int:
    """Returns the checkpoint whose surrogate is shown: early, as c drifts once P is near 0."""
    return max(1, len(checkpoints) // 10)


def print_table(t: float, runs: dict[str, list[Run]]) -> None:
    """Prints where the seeds of one target ended, and what the means of their gradients were."""
    width = max(10, *map(len, runs))
    print(f"\nt = {t:g}: means over the seeds at the last step, and the largest P(b=1)")
    header = f"{'loss':>8} {'P(b=1)':>8} {'largest':>8} {'log-variance':>13}"
    print(f"{'estimator':<{width}} {'evals':>5} {header} {'unbiased':>9} {'bias z':>7}")
    for estimator, seeds in runs.items():
        p = [run.probability[-1] for run in seeds]
        mean, log_variance = np.mean(p), np.mean([run.log_variance[-1] for run in seeds])
        loss = t * t + (1 - 2 * t) * mean
        unbiased = "yes" if tf_relax.estimators.get(estimator).unbiased else "no"
        cells = f"{loss:8.5f} {mean:8.3f} {max(p):8.3f} {log_variance:13.2f}"
        cells = f"{seeds[0].evaluations:5} {cells} {unbiased:>9} {root_mean_square(seeds):>7}"
        print(f"{estimator:<{width}} {cells}")


def root_mean_square(seeds: list[Run]) -> str:
    """Returns the z-scores of some seeds in one: about 1 or below without bias."""
    known = [run.z_score**2 for run in seeds if not math.isnan(run.z_score)]
    return f"{np.sqrt(np.mean(known)):.1f}" if known else "-"


def plot(results: dict[float, dict[str, list[Run]]], checkpoints: np.ndarray, path: Path) -> None:
    """Draws one row per target: training curves, log-variance and surrogates."""
    figure, grid = common.figure(len(results), 3, width=14 / 3, height=4)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    early = checkpoints[tenth(checkpoints)]
    for (left, middle, right), (t, runs) in zip(grid, results.items(), strict=True):
        few = len(runs) <= 4  # the bands of more would hide each other
        for estimator, seeds in runs.items():
            draw(left, checkpoints, [run.probability for run in seeds], estimator, band=few)
            draw(middle, checkpoints, [run.log_variance for run in seeds], estimator, band=few)
            if estimator in SURROGATES:
                draw(right, Z, [run.surrogate for run in seeds], estimator)
        f = (1 / (1 + np.exp(-Z / 0.5)) - t) ** 2
        relaxed = right.plot(Z, f, color="0.4", linewidth=1.2, label="f(σ(z/λ)) at λ = ½")
        left.set(title=f"Training curves, t = {t:g}", xlabel="iteration", ylabel="P(b = 1)")
        middle.set(title=f"Noise, t = {t:g}", xlabel="iteration", ylabel="log-variance of g")
        right.set(title=f"Surrogates at iteration {early}, t = {t:g}", xlabel="z", ylabel="c(z)")
    handles = [*left.get_lines(), *relaxed]
    columns = math.ceil(len(handles) / math.ceil(len(handles) / 6))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False)
    common.save(figure, path)


def draw(
    axes: Axes, x: np.ndarray, seeds: list[np.ndarray], estimator: str, band: bool = True
) -> None:
    """Draws the median over seeds and, if asked, a band that holds the middle 80 % of them."""
    low, median, high = np.quantile(seeds, [0.1, 0.5, 0.9], axis=0)
    label = estimator.upper().replace("_", " ")
    (line,) = axes.plot(x, median, label=label, linewidth=2, **common.style(estimator))
    if band:
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
