"""The site: builds without a warning, and works in a real browser, from disk, without the network.

Needs the extra `docs`, which `make docs` installs, and for the browser Chromium and playwright.
"""

import html.parser
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "google-chrome", "chrome"])), None)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a fresh build."""
    for needed in ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter", "latex2mathml"):
        pytest.importorskip(needed, reason="needs the extra docs: pip install 'tf-relax[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


class Page(html.parser.HTMLParser):
    """Anchors, links, pictures and scripts of a page."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.sources, self.silent = {"", "__top"}, [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag in ("img", "script") and attrs.get("src"):
            self.sources.append(attrs["src"])
        if tag == "link" and attrs.get("rel") in ("stylesheet", "icon"):
            self.sources.append(attrs["href"])
        if tag == "img" and not attrs.get("alt"):
            self.silent.append(attrs.get("src"))


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def target(page, link):
    """The file and the anchor that a link leads to; `None` for other sites."""
    parts = urllib.parse.urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    path = page if not parts.path else page.parent / urllib.parse.unquote(parts.path)
    return path.resolve(), urllib.parse.unquote(parts.fragment)


def test_every_page_of_the_folder_is_built(pages, site):
    found = {path.relative_to(site).as_posix() for path in pages}
    for source in [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")]:
        assert source.relative_to(ROOT / "docs").with_suffix(".html").as_posix() in found


def test_links_and_anchors_lead_somewhere(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            found = target(path, link)
            if found is None:
                continue
            file, anchor = found
            if not file.exists() or (
                anchor and file in pages and anchor not in pages[file].anchors
            ):
                broken.append(f"{path.name}: {link}")
    assert not broken


def test_nothing_is_fetched_from_elsewhere(pages):
    for path, page in pages.items():
        assert [s for s in page.sources if urllib.parse.urlsplit(s).netloc] == [], path.name
        for source in page.sources:
            if not source.startswith("data:"):  # pictures inside of notebooks
                assert target(path, source)[0].exists(), f"{path.name}: {source}"


def test_pictures_have_words(pages):
    for path, page in pages.items():
        assert not page.silent, path.name


def test_equations_are_typeset(site):
    text = (site / "concepts.html").read_text()
    assert text.count("<math") > 20
    assert "arithmatex" not in text
    for page in (site / "tutorials").glob("*.html"):
        text = re.sub(r"<(pre|script|style)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL)
        assert "<math" in text
        assert "$" not in re.sub(r"<[^>]+>", "", text), page.name
    for page in site.rglob("*.html"):
        assert not re.search(r'class="arithmatex"', page.read_text()), page.name


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as running:
        options = ["--no-sandbox", "--disable-background-networking"]
        with running.chromium.launch(executable_path=CHROMIUM, args=options) as chromium:
            yield chromium


def test_every_page_loads_without_an_error(pages, browser):
    wrong = []
    tab = browser.new_page()
    tab.on("console", lambda m: wrong.append((tab.url, m.text)) if m.type == "error" else None)
    tab.on("pageerror", lambda error: wrong.append((tab.url, str(error))))
    tab.on("request", lambda r: wrong.append((tab.url, r.url)) if r.url[:4] == "http" else None)
    for path in pages:
        tab.goto(path.as_uri())
        assert tab.title()
    tab.close()
    assert not wrong


def test_the_layout_holds_at_the_width_of_a_phone(pages, browser):
    wide = []
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    for path in pages:
        tab.goto(path.as_uri())
        if (width := tab.evaluate("document.scrollingElement.scrollWidth")) > 390:
            wide.append((path.name, width))
    tab.close()
    assert not wide


def test_the_search_finds_a_layer(site, browser):
    tab = browser.new_page()
    tab.goto((site / "index.html").as_uri())
    tab.locator("[data-md-component=search-query]").fill("RelaxTopK")
    tab.locator(".md-search-result__item a").first.wait_for(timeout=20_000)
    found = tab.locator(".md-search-result__item").all_inner_texts()
    tab.close()
    assert any("RelaxTopK" in text for text in found)
