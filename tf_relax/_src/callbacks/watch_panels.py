"""What `Watch` shows of a training and of every stochastic layer."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_relax._src.callbacks.gradient_variance import signal_to_noise
from tf_relax._src.callbacks.watch_figure import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Panel,
    curves_over_epochs,
    heat_map,
    titled,
    whole_numbers,
)
from tf_relax._src.callbacks.watch_measure import SiteMeasurement

EXAMPLES = 24  # rows of the heat map of probabilities
WINDOW = 5  # measurements whose moments the curve of the signal-to-noise ratio averages
SNR = r"$\|\mathrm{E}\,g\|\; /\, \sqrt{\mathrm{tr\,Cov}\;g}$"
FIT = r"$1 - \mathrm{E}\,(f - c)^2\, /\, \mathrm{Var}\,f$"
# What the last two axes of b count, by the class of the layer.
AXES = {
    "RelaxBernoulli": ("row", "unit"),
    "RelaxCategorical": ("choice", "category"),
    "RelaxTopK": ("place", "item"),
    "RelaxPermutation": ("place", "item"),
    "GumbelSinkhorn": ("row", "column"),
    "Rounding": ("row", "column"),
    "RelaxSpanningTree": ("node", "edge"),
    "RelaxArborescence": ("node", "node"),
}


def panels_of_losses(epochs: Sequence[int], losses: Sequence[dict[str, float]]) -> list[Panel]:
    """Returns the panel of the loss, if the logs had one."""
    curves = {}
    for name, label, look in (
        ("loss", "training", {"color": GREEN}),
        ("val_loss", "validation", {"color": BLUE, "linestyle": "--"}),
    ):
        values = [each.get(name, np.nan) for each in losses]
        if np.isfinite(values).any():
            curves[label] = (values, look)
    if not curves:
        return []
    draws = functools.partial(curves_over_epochs, epochs, curves, "Loss", "loss")
    return [Panel("loss", "What training minimises.", draws)]


def panels_of_site(
    name: str, epochs: Sequence[int], series: Sequence[SiteMeasurement]
) -> list[Panel]:
    """Returns the panels of a stochastic layer.

    Args:
        name: of the site.
        epochs: of the measurements, from 1.
        series: one measurement each.
    """
    now = series[-1]
    part = functools.partial
    panels = [
        Panel(
            "usage",
            "How often every unit is used, over the batch. A red mark: dead, as it is always or "
            "never used.",
            part(_usage, name, epochs, series),
        ),
        Panel(
            "probabilities",
            "The law of the samples now, for the first examples of the batch."
            if now.usage.ndim < 2
            else "How often every entry of a sample is 1 now, over the batch.",
            part(_probabilities, name, now),
        ),
    ]
    per = "unit" if now.usage_entropy is not None and now.usage_entropy.shape else "sample"
    per = "choice" if now.kind == "RelaxCategorical" else per
    entropies = _entropies(series)
    if entropies:
        caption = (
            f"Between the two curves lies what a {per} says about the input; without a gap it says "
            "nothing."
            if len(entropies) > 1
            else "How much is left to chance, given the input."
        )
        panels.append(
            Panel("entropy", caption, part(_entropy, name, epochs, series, entropies, per))
        )
    if now.dead is not None:
        dead = [each.scalars["dead"] for each in series]
        what, caption = things(now), f"Those of {now.units} that are always or never used."
        panels.append(
            Panel(f"dead {what}", caption, part(_dead, name, epochs, dead, what, now.units))
        )
    if now.surrogate_fit is not None:
        caption = (
            "1: the control variate is the objective itself. 0: no better than a constant. Below: "
            "worse."
        )
        panels.append(Panel("fit", caption, part(_fit, name, epochs, series)))
    learned = {
        "temperature": ([each.temperature for each in series], {"color": BLUE}),
        "scale": ([each.scale for each in series], {"color": ORANGE, "linestyle": "--"}),
    }
    learned = {k: v for k, v in learned.items() if v[0][-1] is not None}
    if learned:
        title = f"{name}: surrogate"
        caption = (
            "Learned: the temperature of relaxed samples, the factor of the objective at them."
        )
        draws = part(curves_over_epochs, epochs, learned, title, "temperature, scale", bottom=0.0)
        panels.append(Panel("surrogate", caption, draws))
    curves = _signal_to_noise(series)
    if curves:
        draws = part(
            curves_over_epochs, epochs, curves, f"{name}: signal to noise", SNR, bottom=0.0
        )
        caption = "Of the gradient in the logits of one example; 0: lost in the noise."
        panels.append(Panel("signal to noise", caption, draws))
    return panels


def things(now: SiteMeasurement) -> str:
    """Returns what the entries of a sample are called."""
    if now.usage.ndim > 1:
        return "entries"
    return {"category": "categories"}.get(_names(now)[1], f"{_names(now)[1]}s")


def _colours(now: SiteMeasurement, values: np.ndarray, balanced: bool = False) -> dict[str, Any]:
    """Returns the colours of a heat map, and their range; `balanced` has its centre at 1/2."""
    from matplotlib.colors import LinearSegmentedColormap

    finite = values[np.isfinite(values)]
    most = float(finite.max()) if finite.size else 1.0
    if not now.binary and finite.size and finite.min() < 0:
        most = float(np.abs(finite).max())
        signed = LinearSegmentedColormap.from_list("signed", [BLUE, "#FFFFFF", ORANGE])
        return {"cmap": signed, "vmin": -most, "vmax": most}
    if balanced:
        sides = [BLUE, "#A9CDE6", "#F4F4F1", "#9FD9C6", GREEN]
        return {
            "cmap": LinearSegmentedColormap.from_list("balanced", sides),
            "vmin": 0.0,
            "vmax": 1.0,
        }
    greens = LinearSegmentedColormap.from_list("use", ["#FFFFFF", "#66C5AB", GREEN, "#00382A"])
    return {"cmap": greens, "vmin": 0.0, "vmax": 1.0 if now.kind == "RelaxBernoulli" else most}


def _names(now: SiteMeasurement) -> tuple[str, str]:
    rows, columns = AXES.get(now.kind, ("row", "unit"))
    if now.kind == "RelaxSpanningTree" and now.usage.ndim > 1:
        columns = "node"
    return rows, columns


def _label(now: SiteMeasurement) -> str:
    if not now.binary:
        return "mean of b"
    return "share of b = 1"


def _usage(name: str, epochs: Sequence[int], series: Sequence[SiteMeasurement], axes: Any) -> str:
    from matplotlib.ticker import FuncFormatter

    now = series[-1]
    values = np.stack([each.usage.ravel() for each in series], axis=1)
    what = things(now)
    bits = now.kind == "RelaxBernoulli"
    heat_map(axes, values, _label(now), _colours(now, values, balanced=bits))

    def epoch(position: float, _: Any) -> str:
        k = round(position)
        return str(epochs[k]) if 0 <= k < len(epochs) and abs(position - k) < 0.01 else ""

    axes.xaxis.set_major_formatter(FuncFormatter(epoch))
    rows, columns = _names(now)
    axes.set(xlabel="epoch", ylabel=columns if now.usage.ndim < 2 else f"{rows}, {columns}")
    titled(axes, f"{name}: usage")
    words = f"Heat map: usage of {len(values)} {what} of {name} over {len(epochs)} measurements"
    finite = values[:, -1][np.isfinite(values[:, -1])]
    if finite.size:
        words += f", now between {finite.min():.3g} and {finite.max():.3g}"
    if now.dead is not None and now.dead.any():
        gone = np.flatnonzero(now.dead.ravel())
        right = np.full(len(gone), len(epochs) - 0.5)
        axes.plot(right, gone, linestyle="", marker="<", color=RED, markersize=4, clip_on=False)
        axes.set_xlim(-0.5, len(epochs) - 0.5)
        words += f"; {len(gone)} are dead"
    return words + "."


def _probabilities(name: str, now: SiteMeasurement, axes: Any) -> str:
    rows, columns = _names(now)
    if now.usage.ndim < 2:
        values = now.probabilities[:EXAMPLES]
        values = values.reshape(len(values), -1)
        label = "P(b = 1 | x)" if now.binary else "E[b | x]"
        axes.set(xlabel=columns, ylabel="example")
        title = f"{name}: {'probabilities' if now.binary else 'means'} now"
        words = f"Heat map: {label} of {len(values)} examples and {values.shape[1]} {things(now)}"
    else:
        values = now.usage.reshape(-1, now.usage.shape[-1])
        label = _label(now)
        axes.set(xlabel=columns, ylabel=rows)
        title = f"{name}: usage now"
        words = f"Heat map: {label} at every {rows} and {columns}"
    heat_map(axes, values, label, _colours(now, values))
    titled(axes, title)
    return f"{words} of {name}."


def _entropies(series: Sequence[SiteMeasurement]) -> dict[str, Any]:
    now = series[-1]
    curves: dict[str, Any] = {}
    if now.usage_entropy is not None:
        values = [each.scalars["usage_entropy"] for each in series]
        curves["of the usage, H(b)"] = (values, {"color": BLUE, "linestyle": "--"})
    if now.entropy is not None:
        values = [each.scalars["entropy"] for each in series]
        curves["given the input, H(b | x)"] = (values, {"color": GREEN})
    return curves


def _entropy(
    name: str,
    epochs: Sequence[int],
    series: Sequence[SiteMeasurement],
    curves: dict[str, Any],
    per: str,
    axes: Any,
) -> str:
    now = series[-1]
    words = curves_over_epochs(epochs, curves, f"{name}: entropy", f"nats per {per}", axes)
    if len(curves) > 1:
        low, high = (curves[label][0] for label in reversed(curves))
        axes.fill_between(epochs, low, high, color=BLUE, alpha=0.08, lw=0)
    if now.even_entropy is not None:
        axes.axhline(now.even_entropy, color=GREY, linestyle=":", label="of even logits")
        values = [value for each, _ in curves.values() for value in each if value > 0]
        axes.set_ylim(0, max([now.even_entropy, *values]) * 1.06)
        axes.legend(frameon=False, fontsize="x-small")
        words += f" Of even logits it is {now.even_entropy:.3g}."
    return words


def _dead(
    name: str, epochs: Sequence[int], dead: list[float], what: str, units: int, axes: Any
) -> str:
    axes.fill_between(epochs, dead, color=RED, alpha=0.15, lw=0, step="mid")
    curves = {"": (dead, {"color": RED, "drawstyle": "steps-mid"})}
    label = f"dead, of {units} {what}"
    words = curves_over_epochs(epochs, curves, f"{name}: dead {what}", label, axes)
    axes.set_ylim(0, max(*dead, 0.1 * units, 1) * 1.08)
    whole_numbers(axes.yaxis, 2)
    return words


def _fit(name: str, epochs: Sequence[int], series: Sequence[SiteMeasurement], axes: Any) -> str:
    values = [np.nan if each.surrogate_fit is None else each.surrogate_fit for each in series]
    curves = {"": (values, {"color": GREEN})}
    words = curves_over_epochs(epochs, curves, f"{name}: fit of the surrogate", FIT, axes)
    axes.axhline(0, color=GREY, linestyle=":", linewidth=1)
    low = np.nanmin(values) if np.isfinite(values).any() else 0.0
    axes.set_ylim(max(min(low - 0.05, -0.05), -1.05), 1.05)
    return words


def _signal_to_noise(series: Sequence[SiteMeasurement]) -> dict[str, Any]:
    """Returns single measurements, and a curve: a ratio of means is steadier than a mean of ratios.

    There is none without noise.
    """
    own = [each.gradient_snr for each in series]
    if not np.isfinite(own).any():
        return {}
    steady = []
    for k in range(len(series)):
        last = series[max(k + 1 - WINDOW, 0) : k + 1]
        variance = float(np.mean([each.gradient_variance for each in last]))
        squares = float(np.mean([each.squared_signal for each in last]))
        steady.append(signal_to_noise(variance, squares))
    dots = {"color": GREEN, "linestyle": "", "marker": ".", "alpha": 0.5}
    return {
        "one measurement": (own, dots),
        f"the last {WINDOW}": (steady, {"color": GREEN, "marker": None}),
    }
