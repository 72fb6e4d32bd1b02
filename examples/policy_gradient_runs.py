"""What the runs of `policy_gradients.py` leave: lines of a file, of which it makes its table."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from policy_gradient_tasks import TASKS

WINDOW = 100  # episodes behind a mean return
POINTS = 400  # of a curve, at most


@dataclasses.dataclass
class Run:
    """What one run gave, as a line of the results holds it.

    Attributes:
        env: name of the task.
        estimator: name in its settings.
        seed: of networks, noise and environments.
        solved_after: episodes, or `None`.
        solved_frames: frames, or `None`.
        seconds: of training.
        curves: by what was logged, thinned out: "episodes", "frames", "return",
            "gradient_log_variance".
        gif: where an episode was drawn, or why none was.
    """

    env: str
    estimator: str
    seed: int
    solved_after: int | None
    solved_frames: int | None
    seconds: float
    curves: dict[str, list[float | None]]
    gif: str | None = None


def curve(seeds: list[Run], axis: str, name: str) -> tuple[np.ndarray, ...]:
    """Returns x, and lowest, mean and highest y over the seeds, as far as all of them go."""
    known = []
    for run in seeds:
        x, y = (np.array(run.curves[key], float) for key in (axis, name))
        known.append((x[np.isfinite(y)], y[np.isfinite(y)]))
    known = [(x, y) for x, y in known if len(x)]
    if not known:  # too short a run for any point
        nothing = np.full(1, np.nan)
        return nothing, nothing, nothing, nothing
    start, end = max(x[0] for x, _ in known), min(x[-1] for x, _ in known)
    grid = np.linspace(start, max(start, end), POINTS)
    values = np.array([np.interp(grid, x, y) for x, y in known])
    return grid, values.min(axis=0), values.mean(axis=0), values.max(axis=0)


def load(env: str, paths: Sequence[str]) -> dict[str, list[Run]]:
    """Returns the runs in an environment that files hold, by estimator."""
    runs: dict[str, list[Run]] = {}
    for path in paths:
        for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
            run = Run(**json.loads(line))
            if run.env == env:
                runs.setdefault(run.estimator, []).append(run)
    return {name: sorted(seeds, key=lambda run: run.seed) for name, seeds in runs.items()}


def print_table(env: str, runs: dict[str, list[Run]]) -> None:
    """Prints how many episodes every seed took, and mean and spread per estimator."""
    task = TASKS[env]
    print(f"\n{env}: episodes until {WINDOW} in a row had a mean return of {task.threshold:g}")
    header = f"{'solved':>7} {'mean':>7} {'std':>6} {'frames':>9} {'final return':>13}"
    print(f"{'estimator':<12} {header}  episodes, seed by seed")
    for estimator, seeds in runs.items():
        solved = [run.solved_after for run in seeds if run.solved_after is not None]
        frames = [run.solved_frames for run in seeds if run.solved_frames is not None]
        mean, std, total = "-", "-", "-"
        if solved:
            mean, total = f"{np.mean(solved):.0f}", f"{np.mean(frames):.0f}"
        if len(solved) > 1:
            std = f"{np.std(solved, ddof=1):.0f}"
        final = [run.curves["return"][-1] for run in seeds]
        known = [value for value in final if value is not None]
        last = f"{np.mean(known):.1f}" if known else "-"
        count = f"{len(solved)}/{len(seeds)}"
        each = " ".join("-" if r.solved_after is None else str(r.solved_after) for r in seeds)
        print(f"{estimator:<12} {count:>7} {mean:>7} {std:>6} {total:>9} {last:>13}  {each}")
    print("mean, std (over seeds) and frames are those of the seeds that solved it")
