"""Pages of the site: wrapped, typeset, with words for every picture."""

import pathlib
import re
import struct
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
names = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(text):
    """Lines of a page, numbered, without blocks of code."""
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            yield number, line


def exempt(line):
    """Tables, equations and HTML cannot be wrapped, nor can what has no space to wrap at."""
    return line.startswith(("|", "#", ":::", "    options:", "$$", "<")) or " " not in line.strip(
        "- "
    )


@names
def test_prose_is_wrapped(page):
    long = [n for n, line in prose(page.read_text()) if len(line) > 100 and not exempt(line)]
    assert not long


@names
def test_pictures_have_words(page):
    for words, picture in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text()):
        assert len(words.split()) >= 3, picture


@names
def test_one_title(page):
    titles = [line for _, line in prose(page.read_text()) if line.startswith("# ")]
    assert len(titles) == 1


def test_what_is_wrapped_is_seen():
    text = "# T\n\n" + "word " * 30 + "\n```\n" + "code " * 30 + "\n```\n| " + "cell " * 30 + "|\n"
    assert [n for n, line in prose(text) if len(line) > 100 and not exempt(line)] == [3]


def test_equations_become_mathml():
    pytest.importorskip("latex2mathml", reason="needs the extra docs")
    sys.path.insert(0, str(DOCS / "hooks"))
    try:
        import site_pages
    finally:
        sys.path.remove(str(DOCS / "hooks"))
    content = r'<p><span class="arithmatex">\(b \sim p(b \mid a) &lt; 1\)</span></p>'
    html = site_pages.on_page_content(content)
    assert "<math" in html
    assert "&#x0223C;" in html
    assert "arithmatex" not in html
    with pytest.raises(ValueError, match=r"does not know \\nonsense"):
        site_pages.on_page_content(r'<span class="arithmatex">\(\nonsense x\)</span>')
    display = site_pages.on_page_content('<div class="arithmatex">\\[\nx\n\\]</div>')
    assert 'display="block"' in display
    table = site_pages.on_page_content("<table><tr><td>1</td></tr></table>")
    assert table.startswith('<div class="wide"><table>')


def test_pictures_are_small_enough_to_load():
    for picture in DOCS.rglob("*.png"):
        content = picture.read_bytes()
        width, height = struct.unpack(">II", content[16:24])
        assert len(content) < 400_000, picture.name
        assert max(width, height) < 3000, picture.name
