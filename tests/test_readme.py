"""Everything that the README and the guides show in Python runs, in order, as one session each."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))]


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
        folder = (ROOT / page).parent
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (folder / link).exists(), f"{page}: {link}"
        for script in re.findall(r"\b((?:examples|benchmarks|tests)/[\w/]+\.py)\b", text):
            assert (ROOT / script).exists(), f"{page}: {script}"


def test_every_estimator_is_documented_and_has_its_row_in_the_proofs():
    import tf_relax

    readme = (ROOT / "README.md").read_text()
    guide = (ROOT / "docs/estimators.md").read_text()
    table = (ROOT / "tests/estimators/table.py").read_text()
    for name in tf_relax.estimators.names():
        assert f'`"{name}"`' in readme
        estimator = tf_relax.estimators.get(name)
        assert f'`"{name}"` = `{type(estimator).__name__}(' in guide
        assert f"{type(estimator).__name__}(" in table
