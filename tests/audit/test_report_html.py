"""The report of an audit as HTML: what it says, which rows it marks, and that it stands alone."""

import base64
import html.parser
import struct
import sys

import pytest

from tf_relax._src.audit import Report, Row
from tf_relax._src.audit.report_page import BIASED, RECOMMENDED

NASTY = "<script>alert('x')</script> & \"co\""


def row(name, unbiased, z, cost, layer="code"):
    return Row(name, layer, unbiased, 0.125, 2.5, 1, 1, 0.0, z, 1.0, 4, 1.5, cost)


def report():
    rows = [
        row("concrete", False, 0.0, 1.0),
        row("broken", True, -20.0, 2.0),
        row(NASTY, True, 1.0, 3.0),
        row("relax", True, float("nan"), 4.0),
    ]
    return Report(rows, "relax")


class Table(html.parser.HTMLParser):
    """Tags, rows with their styles, the caption and the pictures of a piece of HTML."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.styles, self.pictures, self.texts = [], [], [], [], {}
        self.inside = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.inside.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.styles.append(attrs.get("style", ""))
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("img", "meta"):  # have no end
            self.inside.pop()
        if tag == "img":
            self.pictures.append(attrs)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        if "tr" in self.inside:
            self.rows[-1][-1] += data
        elif self.inside:
            self.texts[self.inside[-1]] = self.texts.get(self.inside[-1], "") + data


def test_the_table_of_a_notebook_says_what_the_printed_one_says():
    table = Table(report()._repr_html_())
    printed = [line.split() for line in str(report()).splitlines()]
    heads = "".join(table.rows[0])
    assert heads == "".join(printed[0]).replace("weightvariance", "weight variance").replace(
        "weightSNR", "weight SNR"
    ).replace("modelvariance", "model variance").replace("variancexs", "variance x s")
    # Without the name, which has spaces, and the marks behind it.
    assert [line[1:] for line in table.rows[1:]] == [line[-12:] for line in printed[2:6]]
    assert table.texts["span"] == " ".join(str(report()).splitlines()[-2:])
    assert f"Recommended: {NASTY}" in table.texts["span"]


def test_recommended_and_biased_rows_are_marked_in_words_and_colours():
    table = Table(report()._repr_html_())
    names = [line[0] for line in table.rows[1:]]
    assert names == [
        "concrete (biased)",
        "broken (bias measured)",
        f"{NASTY} (recommended)",
        "relax",
    ]
    colours = [style.split(";")[0].removeprefix("background:") for style in table.styles[1:]]
    assert colours == [BIASED, BIASED, RECOMMENDED, ""]


def test_every_layer_of_the_recommended_estimator_is_marked():
    rows = [row("relax", True, 0.0, 1.0, layer) for layer in ("one", "two")]
    table = Table(Report([*rows, row("arms", True, 0.0, 2.0)], "relax")._repr_html_())
    assert [line[0] for line in table.rows[1:]] == ["relax (recommended)"] * 2 + ["arms"]


def test_nothing_is_recommended_where_all_are_biased():
    text = Report([row("concrete", False, 0.0, 1.0)], "concrete")._repr_html_()
    assert "ecommended" not in text


def test_text_is_no_markup():
    table = Table(report()._repr_html_())
    assert {tag for tag, _ in table.tags} == {
        "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "strong", "span",
    }  # fmt: skip


def test_the_page_stands_alone(tmp_path):
    path = tmp_path / "new" / "folder" / "audit.html"
    report().to_html(path)
    assert [each.name for each in path.parent.iterdir()] == ["audit.html"]
    text = path.read_text(encoding="utf-8")
    assert report()._repr_html_() in text
    page = Table(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe"}
    assert not any("http" in str(value) for _, attrs in page.tags for value in attrs.values())
    assert "url(" not in page.texts["style"]
    assert ("meta", {"charset": "utf-8"}) in page.tags
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert ("meta", viewport) in page.tags
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert page.texts["title"] == page.texts["h1"] == "Audit of gradient estimators"

    (picture,) = page.pictures
    kind, data = picture["src"].split(",")
    assert kind == "data:image/png;base64"
    content = base64.b64decode(data)
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    assert width > 1000
    assert height > 200
    assert "4 rows" in picture["alt"]
    assert "least variance x seconds is that of concrete, 1." in picture["alt"]


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "audit.html"
    path.write_text("old")

    def fails(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fails)
        with pytest.raises(OSError, match="disk full"):
            report().to_html(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    report().to_html(str(path))
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_without_matplotlib_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "tf-relax\[audit\]"'):
        report().to_html(tmp_path / "audit.html")
    assert not list(tmp_path.iterdir())
    assert "<table" in report()._repr_html_()  # which needs no picture
