"""What an audit found, as HTML."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from tf_relax._src import pages

# Tints of green and orange on which black text is read, in colour and without.
RECOMMENDED, BIASED = "#D6F0E7", "#FBE3D1"


def table(
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    marks: Sequence[tuple[bool, str | None]],
    caption: str,
) -> str:
    """Returns the table of an audit, as a notebook and a page show it.

    Args:
        heads: of the columns: estimator, layer and what was measured.
        lines: the cells of every row.
        marks: of every row, whether its estimator is recommended, and how it is known to be biased.
        caption: below the table.
    """
    found = {}
    for number, (recommended, biased) in enumerate(marks):
        words = [pages.Mark("recommended", RECOMMENDED)] if recommended else []
        words += [pages.Mark(biased, BIASED)] if biased else []
        found[number] = words
    return pages.table(heads, lines, caption, marks=found, names=2)


def page(body: str, figure: Any, alternative: str) -> str:
    """Returns the page of an audit.

    Args:
        body: its table.
        figure: its plot, a `matplotlib.figure.Figure`.
        alternative: what the plot shows, in words.
    """
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=140)
    image = pages.picture(file.getvalue(), alternative)
    body += f'\n<h2>Variance, and variance x time</h2>\n<div class="wide">{image}</div>'
    return pages.page("Audit of gradient estimators", body)
