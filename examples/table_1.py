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
ROWS = [
    f"{data}/{model}"
    for data in ("mnist", "omniglot")
    for model in ("nonlinear", "linear1", "linear2")
]
CELLS = [f"{row}/{name}" for row in ROWS for name in ESTIMATORS]

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

    Raises:
        ValueError: for a budget of less than a step.
    """
    steps = round(STEPS * budget)
    if steps < 1:
        raise ValueError(f"A budget of {budget} is less than one of {STEPS:,} steps.")
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
    """Returns the table in Markdown, with the rows of which there is something."""
    lines = ["| | " + " | ".join(ESTIMATORS) + " |", "|---" * (1 + len(ESTIMATORS)) + "|"]
    for row in ROWS:
        bounds = [highest.get(f"{row}/{name}") for name in ESTIMATORS]
        if any(bound is not None for bound in bounds):
            cells = ["" if bound is None else f"{bound:.2f}" for bound in bounds]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
