"""What the examples share: options, the look of their figures, results that outlive a run."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours stay apart under colour blindness. A colour stands for a family of
# estimators, of which relax is always green, and dashes tell its members apart.
GREEN, BLUE, SKY, ORANGE = "#009E73", "#0072B2", "#56B4E9", "#E69F00"
RED, PINK, YELLOW, GREY, BLACK = "#D55E00", "#CC79A7", "#F0E442", "#8A8A8A", "#000000"
SPARSE, DASHED, MIXED, DENSE = (0, (1, 3)), (0, (5, 2)), (0, (6, 2, 1, 2)), (0, (2, 1))
STYLES: dict[str, dict[str, Any]] = {
    "relax": {"color": GREEN, "linestyle": "-"},
    "lax": {"color": GREEN, "linestyle": "-"},
    "dlax": {"color": GREEN, "linestyle": DENSE},
    # Control variates that are not learned as a whole: Taylor expansions, Stein operators.
    "rebar": {"color": BLUE, "linestyle": "--"},
    "muprop": {"color": BLUE, "linestyle": MIXED},
    "double_cv": {"color": BLUE, "linestyle": DENSE},
    "rodeo": {"color": BLUE, "linestyle": SPARSE},
    "a2c": {"color": BLUE, "linestyle": "--"},
    # The score function with a baseline, of its own past or of another sample.
    "reinforce": {"color": RED, "linestyle": ":"},
    "nvil": {"color": RED, "linestyle": DASHED},
    "leave_one_out": {"color": RED, "linestyle": MIXED},
    "unordered_set": {"color": RED, "linestyle": DENSE},
    # Antithetic samples.
    "disarm": {"color": ORANGE, "linestyle": "-"},
    "arms": {"color": ORANGE, "linestyle": DASHED},
    "sb_carms": {"color": ORANGE, "linestyle": MIXED},
    "disarm_tree": {"color": ORANGE, "linestyle": DENSE},
    # Biased: the derivative of something else.
    "concrete": {"color": PINK, "linestyle": "-"},
    "straight_through": {"color": PINK, "linestyle": DASHED},
    "gumbel_straight_through": {"color": PINK, "linestyle": SPARSE},
    "reinmax": {"color": PINK, "linestyle": MIXED},
    "grpo": {"color": PINK, "linestyle": DENSE},
    # No noise at all.
    "exact": {"color": BLACK, "linestyle": "-"},
}
BASELINE = {"color": GREY, "linestyle": "--"}  # whatever has no stochastic unit


def parser(doc: str, output: str | None = None, seeds: int | None = None, jit: bool = True) -> Any:
    """Returns a parser with the options that examples have in common.

    Args:
        doc: of the example; shown above the options.
        output: the default of `--output`, a folder, or a file if it has an ending; no such option
            if not given.
        seeds: the default of `--seeds`, runs per contestant; no such option if not given.
        jit: whether there is anything that `--no-jit` leaves uncompiled.
    """
    result = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if output is not None:
        goal = "where the figure goes" if Path(output).suffix else "folder of results"
        result.add_argument("--output", type=Path, default=Path(output), help=goal)
    if seeds is not None:
        result.add_argument("--seeds", type=count, default=seeds, help="runs per contestant")
    if jit:
        result.add_argument("--no-jit", action="store_true", help="do not compile with XLA")
    return result


def count(text: str) -> int:
    """Returns a number of things, 1 at least: for `type=` of an option."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of 1 or more, not {text}")
    return value


def require(package: str, install: str) -> None:
    """Ends the run with one line if a package is missing.

    Args:
        package: the name that it is imported by; it is not imported.
        install: the command that brings it.
    """
    if importlib.util.find_spec(package) is None:
        raise SystemExit(f"This example needs the package {package}: {install}")


def run(main: Callable[[], Any], resumes: bool = True) -> None:
    """Calls the main function of a script; an interrupt ends it with one line.

    Args:
        main: the function.
        resumes: whether the same command goes on where it was stopped, or begins anew.
    """
    try:
        main()
    except KeyboardInterrupt:
        if resumes:
            sys.exit(
                "\nStopped. What was finished has been kept; the same command goes on from there."
            )
        sys.exit("\nStopped before the end. The same command begins anew.")


def end_at_interrupt() -> None:
    """Lets an interrupt end a worker at once and in silence: for `initializer=` of a pool."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Results:
    """Results of runs by name and seed in a JSON file, so that an interrupted command goes on.

    Args:
        path: of the file, which is read if it exists and written after every run.
        settings: what tells the runs of one command from those of another.

    Raises:
        SystemExit: if the file holds runs of other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path = path
        settings = json.loads(json.dumps(settings))
        self.content: dict[str, Any] = {"settings": settings, "runs": {}}
        if path.exists():
            found = json.loads(path.read_text())
            if found["settings"] != settings:
                other = {k: v for k, v in found["settings"].items() if settings.get(k) != v}
                raise SystemExit(
                    f"{path} holds runs of other settings: {other}. Choose another folder with "
                    "--output, or delete it."
                )
            self.content = found

    def get(self, name: str, seed: int, compute: Callable[[], Any]) -> Any:
        """Returns the result of a run, computed and kept unless the file has it."""
        runs = self.content["runs"].setdefault(name, {})
        if str(seed) not in runs:
            runs[str(seed)] = compute()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            written = self.path.with_suffix(".tmp")
            written.write_text(json.dumps(self.content, indent=1) + "\n")
            written.replace(self.path)  # whole, or not at all
        return runs[str(seed)]


def mean_and_error(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard error over the first axis, 0 if there is just one value."""
    values = np.asarray(values, dtype=float)
    if len(values) == 1:
        return values[0], np.zeros_like(values[0])
    return values.mean(0), values.std(0, ddof=1) / math.sqrt(len(values))


def style(name: str) -> dict[str, Any]:
    """Returns colour and dashes of an estimator, with or without options after its name."""
    return STYLES.get(name.split(",")[0].split("(")[0].strip(), BASELINE)


def figure(rows: int = 1, columns: int = 1, width: float = 5.5, height: float = 3.8) -> Any:
    """Returns a figure and an array of axes, `[rows, columns]`, in the style of all examples."""
    made = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = made.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        plain(axes)
    return made, grid


def plain(axes: Axes) -> None:
    """Gives axes a light grid and no frame."""
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def curve(axes: Axes, x: Sequence[float], seeds: Any, label: str, **look: Any) -> None:
    """Draws the mean over seeds and a band of one standard error; `look` overrides the style."""
    mean, error = mean_and_error(seeds)
    (line,) = axes.plot(x, mean, label=label, **{"linewidth": 2, **style(label), **look})
    axes.fill_between(x, mean - error, mean + error, color=line.get_color(), alpha=0.15, lw=0)


def save(made: Figure, path: Path) -> None:
    """Writes a figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path, dpi=110)
