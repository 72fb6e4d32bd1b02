"""What an audit found: as a table, a dictionary, a data frame and a plot."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tf_relax._src import pages
from tf_relax._src.audit import report_page

_DOUBTLESS = 6  # standard errors


class Row(NamedTuple):
    """One estimator at one stochastic layer.

    Attributes:
        estimator: its name.
        layer: name of the layer, or of one call of a layer that is called several times.
        unbiased: whether the estimator is unbiased in theory.
        variance: variance of the gradient in the logits of one example, averaged over all logits.
        snr: ``|E g| / sqrt(tr Cov g)`` of that gradient.
        weight_variance: variance of the gradient of the loss in the weights that compute the
            logits, averaged over those weights; `nan` where there are none.
        weight_snr: its signal-to-noise ratio.
        bias: relative distance of the mean from the reference, ``|E g - E r| / |E r|``.
        z: its z-score, standard normal for an unbiased estimator.
        model_variance: variance of the gradient of the loss, summed over all weights of the model,
            those after the samples included: estimators of several samples quieten these too.
        evaluations: evaluations of the objective in a step.
        milliseconds: median time of a step without the optimizer.
        variance_time: model variance times seconds: what a fixed time budget averages out to.
    """

    estimator: str
    layer: str
    unbiased: bool
    variance: float
    snr: float
    weight_variance: float
    weight_snr: float
    bias: float
    z: float
    model_variance: float
    evaluations: int
    milliseconds: float
    variance_time: float

    @property
    def biased(self) -> str | None:
        """Says how it is known that the gradient is biased; `None` where nothing says so."""
        if not self.unbiased:
            return "biased"
        return "bias measured" if abs(self.z) > _DOUBTLESS else None


_HEADS = {
    "estimator": "estimator",
    "layer": "layer",
    "unbiased": "unbiased",
    "variance": "variance",
    "snr": "SNR",
    "weight_variance": "weight variance",
    "weight_snr": "weight SNR",
    "bias": "bias",
    "z": "z",
    "model_variance": "model variance",
    "evaluations": "evaluations",
    "milliseconds": "ms",
    "variance_time": "variance x s",
}


class Report:
    """Result of `tf_relax.audit.audit`.

    Attributes:
        rows: one `Row` per estimator and stochastic layer.
        reference: name of the estimator that biases are measured against.
    """

    def __init__(self, rows: Sequence[Row], reference: str):
        self.rows = list(rows)
        self.reference = reference

    @property
    def recommended(self) -> str | None:
        """The unbiased estimator with the least variance x time, if there is one.

        Estimators whose measured bias is beyond doubt (|z| > 6) do not count, whatever they claim.
        """
        trusted = {row.estimator: row.variance_time for row in self.rows}
        for row in self.rows:
            if row.biased:
                trusted.pop(row.estimator, None)
        return min(trusted, key=trusted.__getitem__) if trusted else None

    def to_dict(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Returns estimator -> layer -> quantity -> value."""
        result: dict[str, dict[str, dict[str, Any]]] = {}
        for row in self.rows:
            values = row._asdict()
            del values["estimator"], values["layer"]
            result.setdefault(row.estimator, {})[row.layer] = values
        return result

    def to_frame(self) -> Any:
        """Returns a `pandas.DataFrame` with one line per row.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("Report.to_frame needs pandas: pip install pandas") from error
        return pd.DataFrame(self.rows)

    def __str__(self) -> str:
        cells = [list(_HEADS.values()), *self._cells()]
        widths = [max(len(line[k]) for line in cells) for k in range(len(_HEADS))]
        lines = [
            "  ".join(
                text.ljust(width) if k < 2 else text.rjust(width)
                for k, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join([*lines, *self._remarks()])

    __repr__ = __str__

    def _cells(self) -> list[list[str]]:
        return [[_cell(name, value) for name, value in row._asdict().items()] for row in self.rows]

    def _remarks(self) -> list[str]:
        remarks = [f"Bias and z are against {self.reference}."]
        if self.recommended is not None:
            remarks.append(
                f"Recommended: {self.recommended}, the least variance x time of the unbiased ones."
            )
        return remarks

    def _repr_html_(self) -> str:
        """Returns the table as Jupyter shows it: recommended and biased rows are marked."""
        marks = [(row.estimator == self.recommended, row.biased) for row in self.rows]
        caption = " ".join(self._remarks())
        return report_page.table(list(_HEADS.values()), self._cells(), marks, caption)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Writes the table and the plot as a page that needs nothing beside it.

        It opens from a disk, without a network and without scripts. A file that is there is
        replaced, whole.

        Args:
            path: of the file; its folder is made.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        figure = self.plot()
        least = min(self.rows, key=lambda row: row.variance_time)
        words = (
            f"Bars of the gradient variance, and of variance x seconds, of {len(self.rows)} rows. "
            f"The least variance x seconds is that of {least.estimator}, {least.variance_time:.3g}."
        )
        text = report_page.page(self._repr_html_(), figure, words)
        pages.write(Path(path), text.encode())

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draws variance, and variance x time, as one bar per estimator and layer.

        Args:
            path: where to save the picture, or `None`.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                'Report.plot and to_html need matplotlib: pip install "tf-relax[audit]"'
            ) from error
        labels = [f"{row.estimator}, {row.layer}" for row in self.rows]
        figure = Figure(figsize=(11, 1.4 + 0.32 * len(labels)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        measures = {
            left: ("gradient variance per logit", [row.variance for row in self.rows]),
            right: ("variance x seconds", [row.variance_time for row in self.rows]),
        }
        for axes, (title, values) in measures.items():
            for k, (row, value) in enumerate(zip(self.rows, values, strict=True)):
                axes.barh(
                    k,
                    value,
                    color="#0072B2" if row.unbiased else "white",
                    edgecolor="#0072B2",
                    hatch=None if row.unbiased else "///",
                )
            positive = [value for value in values if value > 0]
            if positive:
                axes.set_xscale("log")
                axes.set_xlim(min(positive) / 3, max(positive) * 2)
            axes.set_title(title)
            axes.spines[["top", "right"]].set_visible(False)
        left.set_yticks(range(len(labels)), labels)
        left.invert_yaxis()
        if not all(row.unbiased for row in self.rows):
            figure.supxlabel("hatched: biased", fontsize="small")
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure


def _cell(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        if math.isnan(value):
            return "-"
        return f"{value:.1f}" if name == "z" else f"{value:.3g}"
    return str(value)
