"""Everything that the README and the guides show in Python runs, in order, as one session each."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]


def blocks(page, language):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    code = blocks(page, "python")
    for number, block in enumerate(code):
        exec(compile(block, f"{page}, block {number}", "exec"), namespace)
    if page == "README.md":
        assert (tmp_path / "saved_models/dvae/saved_model.pb").exists()
        assert code


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for block in blocks(page, "sh"):
            for target in re.findall(r"^make ([a-z-]+)", block, flags=re.MULTILINE):
                assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_linked_and_named_files_exist():
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        text = re.sub(r"^```py.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        folder = (ROOT / page).parent
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (folder / link).exists(), f"{page}: {link}"
        own = r"https://(?:github|raw\.githubusercontent)\.com/tf-relax/tf-relax/(?:blob/)?main/([^)#\s]+)"
        for file in re.findall(own, text):
            assert (ROOT / file).exists(), f"{page}: {file}"
        for script in re.findall(r"\b((?:examples|benchmarks|tests)/[\w/]+\.py)\b", text):
            assert (ROOT / script).exists(), f"{page}: {script}"


def test_the_readme_has_absolute_links():
    """A package index shows it, and has no files beside it."""
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 10
    assert all(link.startswith("https://") for link in links)


def test_every_estimator_is_documented_and_has_its_row_in_the_proofs():
    import tf_relax

    guide = (ROOT / "docs/estimators.md").read_text()
    table = (ROOT / "tests/estimators/table.py").read_text()
    for name in tf_relax.estimators.names():
        estimator = tf_relax.estimators.get(name)
        assert f'`"{name}"` = `{type(estimator).__name__}(' in guide
        assert f"{type(estimator).__name__}(" in table
