"""What methods that rank came to, as a table and as a figure: those of `ranking.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import common
from common import mean_and_error

# Besides the style of the estimator: a line is the wider the more samples, and baselines, which
# share a colour, differ in their dashes.
LOOKS: dict[str, dict[str, Any]] = {
    "relax": {"linewidth": 1.5},
    "relax, K = 2": {"linewidth": 2.5},
    "relax, K = 4": {"linewidth": 4},
    "leave_one_out, K = 2": {"linewidth": 1.5},
    "leave_one_out, K = 4": {"linewidth": 3},
    "nvil": {},
    "reinforce, learned baseline": {"linestyle": "-"},
    "reinforce, moving average": {"linestyle": common.DENSE},
    "reinforce": {},
    "listwise": {},
}


class Result(NamedTuple):
    """One method at its learning rate, `[seeds, checkpoints]`: revenue of samples and of modes."""

    learning_rate: float
    sampled: np.ndarray
    mode: np.ndarray


def row(name: str, result: Result) -> str:
    """Returns a row of the table."""
    (s, s_error), (m, m_error) = (mean_and_error(r) for r in (result.sampled, result.mode))
    cells = f"{s[-1]:9.3f} +- {s_error[-1]:.3f} {s[len(s) // 2]:10.3f}"
    cells += f" {m[-1]:9.3f} +- {m_error[-1]:.3f}"
    return f"{name:<28} {result.learning_rate:6g} {cells}"


def print_table(results: dict[str, Result], value_order: float) -> None:
    """Prints the results, and the revenue of the best order of single items."""
    print(f"{'method':<28} {'rate':>6} {'sampled slates':>18} {'half way':>9} {'mode':>18}")
    for name, result in results.items():
        print(row(name, result))
    print(f"{'order by appeal * price, known labels':<35} {value_order:9.3f}")


def plot(
    results: dict[str, Result], evaluations: np.ndarray, value_order: float, path: Path
) -> None:
    """Draws the revenue of sampled slates over the evaluations, and one standard error."""
    figure, [[axes]] = common.figure(width=8.5, height=4.8)
    for name, result in results.items():
        common.curve(axes, evaluations, result.sampled, name, **LOOKS[name])
    axes.axhline(value_order, color="0.5", linestyle=":", label="order by appeal x price (labels)")
    axes.set(xlabel="evaluations of the revenue", ylabel="expected revenue of sampled slates")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    common.save(figure, path)
