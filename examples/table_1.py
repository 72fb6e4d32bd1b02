"""Table 1 of Grathwohl et al. (2018): the highest training ELBO of discrete VAEs.

A cell is a data set, an architecture and an estimator, such as `mnist/nonlinear/relax`. At the
paper's budget it trains for two million steps, with a tenth of it one.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from long_runs import Checkpoint
from tf_relax.estimators import Concrete, Estimator, MuProp, Nvil, Rebar, Relax

STEPS = 2_000_000
CHECKPOINTS = 20
ESTIMATORS: dict[str, Estimator] = {
    "concrete": Concrete(),
    "nvil": Nvil(),
    "muprop": MuProp(),
    "rebar": Rebar(),
    "relax": Relax(),
    "antithetic": Relax(num_samples=2, coupling="antithetic"),  # not in the paper
}
# In the order of the estimators above.
PAPER = {
    "mnist/nonlinear": (-102.2, -101.5, -101.1, -81.01, -78.13),
    "mnist/linear1": (-111.3, -112.5, -111.7, -111.6, -111.20),
    "mnist/linear2": (-99.62, -99.6, -99.07, -98.22, -98.00),
    "omniglot/nonlinear": (-110.4, -109.58, -108.72, -56.76, -56.12),
    "omniglot/linear1": (-117.23, -117.44, -117.09, -116.63, -116.57),
    "omniglot/linear2": (-109.95, -109.98, -109.55, -108.71, -108.54),
}
CELLS = [f"{row}/{name}" for row in PAPER for name in ESTIMATORS]

# From data set, architecture, estimator, steps, checkpoints and folder.
Train = Callable[[str, str, Estimator, int, int, Path], list[Checkpoint]]


def matching(patterns: Sequence[str]) -> list[str]:
    """Returns the cells that match any of some patterns (`mnist/*/relax`); all, for none.

    Raises:
        ValueError: for a pattern that matches no cell.
    """
    for pattern in patterns:
        if not fnmatch.filter(CELLS, pattern):
            raise ValueError(f"No cell of table 1 matches {pattern!r}. They are {CELLS}.")
    patterns = patterns or ["*"]
    return [cell for cell in CELLS if any(fnmatch.fnmatch(cell, each) for each in patterns)]


def reproduce(
    patterns: Sequence[str], budget: float, folder: Path, train: Train
) -> dict[str, float]:
    """Trains cells, those that are complete excepted, and prints the table.

    Args:
        patterns: of the cells to train.
        budget: what part of the paper's steps.
        folder: for what runs leave; other budgets use others.
        train: trains one cell, or goes on with it.

    Returns:
        The highest training ELBO of every cell.
    """
    steps = round(STEPS * budget)
    checkpoints = min(CHECKPOINTS, steps)
    highest = {}
    for cell in tqdm(matching(patterns), desc="cells"):
        dataset, model, estimator = cell.split("/")
        run = folder / f"{steps}_steps" / cell
        found = train(dataset, model, ESTIMATORS[estimator], steps, checkpoints, run)
        highest[cell] = max(checkpoint.bound for checkpoint in found)
        tqdm.write(f"{cell}: {highest[cell]:.2f} nats")
    print(f"\nhighest training ELBO, {steps:,} steps (in the paper: 2,000,000)")
    print(table(highest))
    return highest


def table(highest: dict[str, float]) -> str:
    """Returns the table in Markdown, the paper's figures in brackets."""
    lines = ["| | " + " | ".join(ESTIMATORS) + " |", "|---" * (1 + len(ESTIMATORS)) + "|"]
    for row, published in PAPER.items():
        cells = []
        for k, name in enumerate(ESTIMATORS):
            own = highest.get(f"{row}/{name}")
            theirs = f" ({published[k]})" if k < len(published) else ""
            cells.append(("" if own is None else f"{own:.2f}") + theirs)
        if any(f"{row}/{name}" in highest for name in ESTIMATORS):
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
