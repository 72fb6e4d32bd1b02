"""What searches for an architecture came to, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

import architecture_cell as cell
import common
import tf_relax


class Found(NamedTuple):
    """What one search ended with."""

    estimator: str
    architecture: list[str]
    probabilities: np.ndarray  # [time, edges, operations]
    shared_accuracy: float  # of the mode, with the weights that all architectures share
    objective: float  # expected over architectures
    seconds: float


class Row(NamedTuple):
    """One network, or several with the same role, trained from scratch."""

    name: str
    accuracy: np.ndarray  # one per network
    multiplications: np.ndarray


def print_table(found: Sequence[Found], rows: Sequence[Row]) -> None:
    """Prints what each search found and what every network is worth."""
    names = {
        one.estimator: one.estimator
        + ("" if tf_relax.estimators.get(one.estimator).unbiased else " (biased)")
        for one in found
    }
    print(f"{'edge':>18}  " + "  ".join(f"{f'{s} to {t}':9}" for s, t in cell.EDGES))
    for one in found:
        print(f"{names[one.estimator]:>18}  " + "  ".join(f"{n:9}" for n in one.architecture))
    print(
        "\nsearch: seconds, E[objective], accuracy of the mode with shared weights; then, trained"
        f"\nfrom scratch: accuracy, and thousands of multiplications per image\n{'':18}"
        + "".join(f"{c:>10}" for c in ("s", "E[f]", "shared", "mean", "lowest", "highest", "mult."))
    )
    searches = {one.estimator: one for one in found}
    for row in rows:
        one, accuracy = searches.get(row.name), 100 * row.accuracy
        print(
            f"{names.get(row.name, row.name):>18}"
            + (f"{one.seconds:10.1f}{one.objective:10.3f}" if one else " " * 20)
            + (f"{100 * one.shared_accuracy:10.1f}" if one else " " * 10)
            + f"{accuracy.mean():10.1f}{accuracy.min():10.1f}{accuracy.max():10.1f}"
            + f"{row.multiplications.mean() / 1e3:10.0f}"
        )


def draw_picture(found: Found, rows: Sequence[Row], path: Path) -> None:
    """Draws the probabilities over training, the cell that they end in, and what it is worth."""
    figure = Figure(figsize=(14, 6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
    count = len(cell.OPERATIONS)
    heat = found.probabilities.reshape(len(found.probabilities), -1).T
    image = left.imshow(heat, aspect="auto", vmin=0, vmax=1, cmap="magma", interpolation="nearest")
    figure.colorbar(image, ax=left, label="probability")
    left.set_yticks(range(len(heat)), list(cell.OPERATIONS) * len(cell.EDGES), fontsize=6)
    for e, (source, target) in enumerate(cell.EDGES):
        left.axhline(count * e - 0.5, color="white", linewidth=1)
        left.text(0, count * (e + 0.5) - 0.5, f"{source} → {target}", color="white", va="center")
    left.set(title=f"operations on the edges ({found.estimator})", xlabel="share of training / %")
    last = len(found.probabilities) - 1
    left.set_xticks([0, last / 2, last], ["0", "50", "100"])

    places = np.array([(0.0, 3.0), (-0.9, 2.0), (0.9, 1.0), (0.0, 0.0)])
    for (source, target), name in zip(cell.EDGES, found.architecture, strict=True):
        if name == "zero":
            continue
        bend = {(0, 3): 0.9, (0, 2): -0.2, (1, 3): 0.2}.get((source, target), 0.0)
        arrow = {"arrowstyle": "-|>", "connectionstyle": f"arc3,rad={bend}", "color": common.BLUE}
        arrow |= {"shrinkA": 14, "shrinkB": 14}
        middle.annotate("", xy=places[target], xytext=places[source], arrowprops=arrow)
        # An arc's middle lies half its bend to the side of the chord.
        x, y = places[target] - places[source]
        spot = (places[source] + places[target]) / 2 + 0.5 * bend * np.array([y, -x])
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        middle.text(*spot, name, ha="center", va="center", fontsize=9, bbox=box)
    for node, (x, y) in enumerate(places):
        circle = {"boxstyle": "circle", "facecolor": "lightgray"}
        middle.text(x, y, str(node), ha="center", va="center", bbox=circle)
    middle.set(xlim=(-2.2, 1.6), ylim=(-0.4, 3.4), title="the cell that was found", aspect="equal")
    middle.set_axis_off()

    common.plain(right)
    others = {"random": (common.GREY, "x"), "all operations": (common.BLACK, "s")}
    markers = iter("oDv^P*<>" * len(rows))  # for estimators of one colour
    for row in rows:
        color, marker = others.get(row.name) or (common.style(row.name)["color"], next(markers))
        x, y = row.multiplications / 1e3, 100 * row.accuracy
        right.scatter(x, y, label=row.name, color=color, marker=marker)
    right.set(
        title="trained from scratch",
        xlabel="multiplications per image in the cell / 1000",
        ylabel="test accuracy / %",
    )
    right.legend()
    common.save(figure, path)
