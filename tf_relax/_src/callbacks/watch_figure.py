"""Panels of curves and heat maps, drawn at once and cut apart."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

# Okabe and Ito's colours stay apart under colour blindness, and dashes tell curves apart as well.
GREEN, BLUE, ORANGE, RED, GREY = "#009E73", "#0072B2", "#E69F00", "#D55E00", "#6E6E6E"
COLUMNS, WIDTH, HEIGHT, DPI = 4, 3.6, 2.8, 130
# Left, bottom, width and height of axes within a panel: a layout that looks for them costs more
# time than all else.
CURVES, HEAT_MAP, BAR = (0.19, 0.17, 0.77, 0.7), (0.15, 0.17, 0.6, 0.7), (0.785, 0.17, 0.035, 0.7)


class Panel(NamedTuple):
    """One picture.

    Attributes:
        name: of what it shows.
        caption: a sentence below it.
        draw: draws it on axes, and returns what it shows in words.
    """

    name: str
    caption: str
    draw: Callable[[Any], str]


class Drawn(NamedTuple):
    """A panel that has been drawn.

    Attributes:
        name: of what it shows.
        caption: a sentence below it.
        alternative: what it shows, in words.
        pixels: `[height, width, 3]`, bytes.
    """

    name: str
    caption: str
    alternative: str
    pixels: np.ndarray


def needs_matplotlib(owner: str) -> None:
    """Raises an ImportError that names the remedy where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'{owner} draws with matplotlib, which is missing: pip install "tf-relax[audit]"'
        ) from error


def draw(groups: Sequence[Sequence[Panel]]) -> tuple[np.ndarray, list[list[Drawn]]]:
    """Draws panels, each group from a row of its own on.

    Args:
        groups: of panels, none of them empty.

    Returns:
        The pixels of all, `[height, width, 3]`, and each panel by itself.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(COLUMNS, max(map(len, groups)))
    rows = sum(-(-len(group) // columns) for group in groups)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), dpi=DPI)
    canvas: Any = FigureCanvasAgg(figure)
    cells = figure.subfigures(rows, columns, squeeze=False)
    placed, row = [], 0
    for group in groups:
        for k, panel in enumerate(group):
            cell = cells[row + k // columns, k % columns]
            axes = cell.add_axes(CURVES)
            axes.tick_params(labelsize="small")
            words = panel.draw(axes)
            axes.xaxis.label.set_size("small")
            axes.yaxis.label.set_size("small")
            placed.append((panel, words, cell))
        row += -(-len(group) // columns)
    canvas.draw()
    whole = np.asarray(canvas.buffer_rgba())[..., :3]
    drawn = iter([_cut(whole, *each) for each in placed])
    return whole.copy(), [[next(drawn) for _ in group] for group in groups]


def _cut(whole: np.ndarray, panel: Panel, words: str, cell: Any) -> Drawn:
    box, height = cell.bbox, len(whole)
    top, bottom = round(height - box.y1), round(height - box.y0)
    pixels = whole[max(top, 0) : bottom, max(round(box.x0), 0) : round(box.x1)]
    return Drawn(panel.name, panel.caption, words, pixels.copy())


def png(pixels: np.ndarray) -> bytes:
    """Returns a file of pixels, `[height, width, 3]`."""
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, pixels, format="png", dpi=DPI)
    return file.getvalue()


def heat_map(axes: Any, values: np.ndarray, label: str, colours: dict[str, Any]) -> None:
    """Draws values, `[rows, columns]`, with a bar that tells what the colours mean.

    Args:
        axes: of a panel.
        values: `nan` stays white.
        label: of the bar.
        colours: arguments of `imshow`.
    """
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **colours)
    axes.set_position(HEAT_MAP)
    bar = axes.figure.colorbar(image, cax=axes.figure.add_axes(BAR))
    bar.set_label(label, fontsize="small")
    bar.ax.tick_params(labelsize="x-small")
    bar.outline.set_visible(False)
    axes.spines[:].set_color("0.7")
    for axis, count in ((axes.yaxis, values.shape[0]), (axes.xaxis, values.shape[1])):
        whole_numbers(axis, count)


def curves_over_epochs(
    epochs: Sequence[int],
    curves: dict[str, Any],
    title: str,
    label: str,
    axes: Any,
    bottom: float | None = None,
) -> str:
    """Draws curves over epochs, and returns them in words.

    Args:
        epochs: of the measurements.
        curves: values and looks by name; an unnamed one needs no legend.
        title: of the panel.
        label: of the vertical axis.
        axes: of the panel.
        bottom: of the vertical axis, if it is to be fixed.
    """
    words = []
    marker = "." if len(epochs) <= 20 else None
    for name, (values, look) in curves.items():
        found = np.array([np.nan if each is None else each for each in values], dtype=float)
        found[~np.isfinite(found)] = np.nan
        axes.plot(epochs, found, label=name, **{"linewidth": 1.8, "marker": marker, **look})
        words.append(f"{name + ' ' if name else ''}from {found[0]:.3g} to {found[-1]:.3g}")
    if any(curves):
        axes.legend(frameon=False, fontsize="x-small")
    if bottom is not None:
        axes.set_ylim(bottom=bottom)
    axes.set(xlabel="epoch", ylabel=label)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    whole_numbers(axes.xaxis, 2)
    if len(epochs) == 1:
        axes.set_xticks(list(epochs))
    titled(axes, title)
    return f"Curve over {len(epochs)} measurements: {title}, {'; '.join(words)}."


def whole_numbers(axis: Any, count: int) -> None:
    """Puts ticks at whole numbers, of which there are `count`."""
    from matplotlib.ticker import MaxNLocator

    if count > 1:
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    else:
        axis.set_ticks([0])


def titled(axes: Any, text: str) -> None:
    """Gives a panel its title."""
    axes.set_title(text, loc="left", fontsize="medium", fontweight="bold")
