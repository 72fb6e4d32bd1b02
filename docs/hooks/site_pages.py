"""What the site needs beside its plugins: equations as MathML, and nothing from elsewhere."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.structure.files import File

# What the Markdown extension makes of $...$ and $$...$$, in pages and in docstrings.
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
# What holds no equations of a notebook: code, its outputs, pictures and every other tag.
_KEPT = re.compile(
    "("
    + "|".join(rf"<{tag}\b.*?</{tag}>" for tag in ("pre", "code", "script", "style", "svg"))
    + "|<[^>]+>)",
    re.DOTALL,
)
_SPACED = r'\1<mspace width="0.17em"/>'


def mathml(latex: str, display: str) -> str:
    """Returns LaTeX, with its HTML entities, as MathML.

    Raises:
        ValueError: if it cannot be converted, which stops the build.
    """
    source = " ".join(html.unescape(latex).split())
    try:
        result = latex2mathml.converter.convert(source, display=display)
    except Exception as error:
        raise ValueError(f"No LaTeX that latex2mathml knows: {source}") from error
    if unknown := re.search(r"<m[io]>(\\\w+)</m[io]>", result):
        raise ValueError(f"latex2mathml does not know {unknown[1]}: {source}")
    # Operators and functions keep the distance that TeX gives them.
    result = result.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
    result = re.sub(r'(<mi>(?:log|exp|max|min)</mi>)(?!<mo stretchy="false">)', _SPACED, result)
    return (
        f'<span class="equation">{result}</span>'
        if display == "inline"
        else (f'<div class="equation">{result}</div>')
    )


def _typeset_dollars(text: str) -> str:
    """Typesets the equations of a notebook, which reach the page as they were written."""
    text = re.sub(r"\$\$(.+?)\$\$", lambda m: mathml(m[1], "block"), text, flags=re.DOTALL)
    return re.sub(r"\$([^$]+?)\$", lambda m: mathml(m[1], "inline"), text)


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Adds the changelog, which stands beside the package, as a page."""
    text = Path(config.config_file_path).with_name("CHANGELOG.md").read_text()
    files.append(File.generated(config, "changes.md", content=text))
    return files


def on_page_content(content: str, page: Any = None, **_: Any) -> str:
    """Typesets the equations of a page, and mends the links of notebooks."""
    content = _DISPLAY.sub(lambda match: mathml(match[1], "block"), content)
    content = _INLINE.sub(lambda match: mathml(match[1], "inline"), content)
    if 'class="arithmatex"' in content:
        raise ValueError("An equation of this page was not recognised.")
    if page is not None and page.file.src_path.endswith(".ipynb"):
        content = "".join(
            part if part.startswith("<") else _typeset_dollars(part)
            for part in _KEPT.split(content)
        )
        content = re.sub(
            r'href="(?![a-z]+:)([^"#]+)\.(?:md|ipynb)([#"])', r'href="\1.html\2', content
        )
    # Wide tables scroll by themselves, not the page with them.
    content = re.sub(r"<table>", '<div class="wide"><table>', content)
    return content.replace("</table>", "</table></div>")
