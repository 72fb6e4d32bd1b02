"""Pages of HTML that need nothing beside them: tables, pictures, and files that are whole."""

from __future__ import annotations

import base64
import html
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# As wide as the screen of a phone, or of a desk; what is wider scrolls by itself.
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #ffffff;
       margin: 0 auto; padding: 1rem; max-width: 76rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; } .wide img { min-width: 40rem; width: 100%; height: auto; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1rem; }
figure { margin: 0; } .panels img { width: 100%; height: auto; }
figcaption, .notes { font-size: 0.85rem; color: #4a4a4a; }
"""


class Mark(NamedTuple):
    """What sets a row of a table apart: a word, for all readers, and a colour behind it.

    Attributes:
        word: shown in the first cell.
        colour: of the row, in hexadecimal.
    """

    word: str
    colour: str


def escaped(text: Any) -> str:
    """Returns text that no browser takes for markup."""
    return html.escape(str(text))


def table(
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    caption: str,
    marks: Mapping[int, Sequence[Mark]] | None = None,
    names: int = 1,
) -> str:
    """Returns a table, with styles of its own: a notebook has no style sheet for it.

    Args:
        heads: of the columns.
        lines: the cells of every row, as text.
        caption: below the table.
        marks: of rows, by their numbers; the first gives its colour.
        names: how many columns hold names, which are flush left; others hold numbers.
    """
    cell = "padding:0.25em 0.6em;border-bottom:1px solid #d0d0d0;"

    def sides(column: int, wraps: bool = False) -> str:
        side, space = "left" if column < names else "right", "normal" if wraps else "nowrap"
        return f"{cell}text-align:{side};white-space:{space};vertical-align:bottom"

    top = "".join(
        f'<th scope="col" style="{sides(k, wraps=True)}">{escaped(head)}</th>'
        for k, head in enumerate(heads)
    )
    rows = []
    for number, line in enumerate(lines):
        own = (marks or {}).get(number, ())
        words = "".join(f" <strong>({escaped(mark.word)})</strong>" for mark in own)
        colour = f' style="background:{own[0].colour};color:#1a1a1a"' if own else ""
        cells = [f'<th scope="row" style="{sides(0)};font-weight:normal">{escaped(line[0])}{words}']
        cells += [f'<td style="{sides(k)}">{escaped(text)}' for k, text in enumerate(line) if k]
        ends = ["</th>"] + ["</td>"] * (len(cells) - 1)
        rows.append(f"<tr{colour}>{''.join(map(''.join, zip(cells, ends, strict=True)))}</tr>")
    below = "caption-side:bottom;text-align:left;padding:0.5em 0"
    # As wide as a table is, a caption stays in sight.
    stays = "display:inline-block;position:sticky;left:0;max-width:90vw;white-space:normal"
    return (
        '<div class="wide" style="overflow-x:auto">'
        '<table style="border-collapse:collapse;font-size:0.9em">'
        f'<caption style="{below}"><span style="{stays}">{escaped(caption)}</span></caption>'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


def picture(png: bytes, alternative: str) -> str:
    """Returns an image that is part of the page.

    Args:
        png: the file.
        alternative: what it shows, for those who do not see it.
    """
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escaped(alternative)}">'


def page(title: str, body: str, refresh: int | None = None) -> str:
    """Returns a page that opens from a disk, without a network and without scripts.

    Args:
        title: of the page, and its heading.
        body: HTML below the heading.
        refresh: seconds after which a browser loads it again; `None` for never.
    """
    again = "" if refresh is None else f'<meta http-equiv="refresh" content="{refresh}">\n'
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{again}<title>{escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escaped(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def write(path: Path, content: bytes) -> None:
    """Writes a file beside its place and moves it there: who reads it meanwhile reads a whole one.

    Args:
        path: of the file; its folder is made.
        content: of the file.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
