"""Draws the bounds of `training_race.py` over steps, of the files that it wrote.

    python benchmarks/race_figure.py benchmarks/results/race_60000.json --output docs/race.png

The solid lines are unbiased, the dashed ones are not. With several seeds a line is their mean. The
first checkpoints, where everybody is far below, are left out by `--from-step`.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path

import numpy as np
from contestants import CONTESTANTS
from matplotlib.figure import Figure

# Okabe and Ito's colours; relax is green wherever it is drawn.
COLOURS = {
    "relax": "#009E73",
    "arms": "#E69F00",
    "rebar": "#0072B2",
    "leave_one_out": "#D55E00",
    "concrete": "#CC79A7",
    "reinmax": "#7A4EA0",
}


def draw(results: dict, path: Path, from_step: int, title: str | None) -> None:
    """Draws one line per estimator, named at its end."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    ends = []
    for name, seeds in results["runs"].items():
        if not seeds:
            continue
        unbiased = CONTESTANTS[results.get("model", "nonlinear")][name].unbiased
        last = results.get("steps_of", {}).get(name, results["steps"])
        mean = np.mean(list(seeds.values()), axis=0)
        steps = last / len(mean) * (1 + np.arange(len(mean)))
        shown = steps >= from_step
        (line,) = axes.plot(
            steps[shown],
            mean[shown],
            color=COLOURS.get(name.split(",")[0], "0.5"),
            linestyle="-" if unbiased else (0, (5, 2)),
            linewidth=2.2 if unbiased else 1.6,
        )
        label = f"{name}{'' if unbiased else ' (biased)'} {mean[-1]:.1f}"
        ends.append([mean[-1], textwrap.fill(label, 28), line, last])
    ends.sort()
    low, high = axes.get_ylim()
    place, line_height = -np.inf, 0.047 * (high - low)
    for bound, label, line, last in ends:  # they keep off each other
        half = line_height * (1 + label.count("\n")) / 2
        place = max(bound - 2 * line_height, place + half)
        axes.annotate(
            label,
            (last, bound),
            (1.01 * last, place),
            color=line.get_color(),
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
        place += half + line_height / 4
    axes.set(xlabel="steps", ylabel="training ELBO, nats per image")
    axes.set_title(title, loc="left", fontsize=11)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0)
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> dict:
    """Reads the files, draws, and returns what was drawn."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", help="of training_race.py, of equal steps")
    parser.add_argument("--from-step", type=int, default=4000)
    parser.add_argument("--title")
    parser.add_argument("--output", type=Path, default=Path("race.png"))
    arguments = parser.parse_args(argv)
    merged: dict = {"steps": 0, "runs": {}}
    for path in arguments.files:
        part = json.loads(path.read_text())
        merged |= {**part, "runs": {**merged["runs"], **part["runs"]}}
    draw(merged, arguments.output, arguments.from_step, arguments.title)
    print(f"figure: {arguments.output}")
    return merged


if __name__ == "__main__":
    main()
