"""The notebooks run from top to bottom, small, and show what a full run gave."""

import json
import os
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "docs/tutorials"
# What each needs to be quick; the cell with the tag "parameters" holds the full sizes.
SMALL = {
    "black_box": {"STEPS": 60, "EPOCHS": 2, "ESTIMATES": 200, "DRAWS": 4},
    "discrete_vae": {"STEPS": 60, "EPOCHS": 2, "DRAWS": 4, "IMPORTANCE_SAMPLES": 5},
    "permutations": {"STEPS": 60, "EPOCHS": 2, "SAMPLES": 200, "DRAWS": 4},
}
names = pytest.mark.parametrize("name", SMALL)


def read(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_every_notebook_is_listed():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMALL)


@names
def test_what_is_shown_was_computed(name):
    cells = code(read(name))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 2
    assert any("<table" in "".join(o.get("data", {}).get("text/html", "")) for o in outputs)
    assert not re.search(r"/(home|root|tmp|work|Users)/", json.dumps(read(name)))
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 400_000


@names
def test_sizes_are_those_of_the_parameters(name):
    (cell,) = [c for c in code(read(name)) if "parameters" in c["metadata"].get("tags", [])]
    assert set(re.findall(r"^(\w+) = ", "".join(cell["source"]), flags=re.M)) == set(SMALL[name])


@pytest.mark.slow
@names
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="needs pip install nbclient")
    nbclient = pytest.importorskip("nbclient", reason="needs pip install nbclient")
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join(f"{key} = {value}" for key, value in SMALL[name].items())
            continue
        # What a short run has not learned, the last cell of a full one asserts.
        if cell.cell_type == "code" and cell is code_cells(notebook)[-1]:
            cell.source = ""
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    assert [c for c in code_cells(notebook) if c.outputs]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
