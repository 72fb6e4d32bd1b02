"""The notebooks run from top to bottom, small, and show what a full run gave.

`python tests/test_tutorials.py` runs them in full and writes their outputs anew.
"""

import ast
import json
import os
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "docs/tutorials"
# What each needs to be quick; the cell with the tag "parameters" holds the full sizes. Their last
# cell asserts what the page claims: that holds in the small as well.
SMALL = {
    "black_box": {"STEPS": 80, "EPOCHS": 2, "ESTIMATES": 2000, "DRAWS": 8},
    "discrete_vae": {"STEPS": 60, "EPOCHS": 2, "DRAWS": 8, "IMPORTANCE_SAMPLES": 20},
    "permutations": {"STEPS": 60, "EPOCHS": 2, "SAMPLES": 2000, "DRAWS": 8},
}
MACHINE = re.compile(r"/(?:home|root|tmp|work|Users|var|usr|opt)/|site-packages")
names = pytest.mark.parametrize("name", SMALL)


def read(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell["outputs"]]


def parameters(notebook):
    """Returns the cell that holds the sizes, and its names."""
    (cell,) = [c for c in code(notebook) if "parameters" in c["metadata"].get("tags", [])]
    statements = ast.parse("".join(cell["source"])).body
    assert all(isinstance(statement, ast.Assign) for statement in statements)
    return cell, {statement.targets[0].id for statement in statements}


def run(name, folder, sizes=None):
    """Returns a notebook with the outputs of a fresh kernel.

    Args:
        name: of the notebook.
        folder: that it runs in.
        sizes: what the cell of the parameters becomes; as it is if not given.

    Raises:
        nbclient.exceptions.CellExecutionError: where a cell raises.
    """
    import nbclient
    import nbformat

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    if sizes:
        cell, _ = parameters(notebook)
        cell.source = "\n".join(f"{key} = {value}" for key, value in sizes.items())
    client = nbclient.NotebookClient(
        notebook,
        timeout=1200,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    return notebook


def test_every_notebook_is_listed():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMALL)


@names
def test_what_is_shown_was_computed(name):
    notebook = read(name)
    cells = code(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        source = "".join(cell["source"])
        last = ast.parse(source).body[-1]
        shows = re.search(r"^\s*(?:print|show|show_rows)\(|verbose=2", source, flags=re.M)
        defines = re.search(r"^def show", source, flags=re.M)
        if isinstance(last, ast.Expr) and isinstance(last.value, ast.Name):
            shows = True  # a value at the end of a cell
        assert bool(cell["outputs"]) == bool(shows and not defines), source
    assert not [o for o in outputs(notebook) if o["output_type"] == "error"]
    assert not [o for o in outputs(notebook) if o.get("name") == "stderr"]


@names
def test_pictures_have_words_and_audits_are_tables(name):
    results = [o for o in outputs(read(name)) if "data" in o]
    pictures = [o for o in results if "image/png" in o["data"]]
    assert len(pictures) >= 5
    for picture in pictures:
        assert len(picture["metadata"]["image/png"]["alt"]) > 20
    assert any("<table" in "".join(o["data"].get("text/html", "")) for o in results)


@names
def test_nothing_of_a_machine_is_left(name):
    notebook = read(name)
    for output in outputs(notebook):
        shown = {k: v for k, v in output.get("data", {}).items() if k != "image/png"}
        assert not MACHINE.search(json.dumps([shown, output.get("text")]))
    assert all(cell["metadata"].keys() <= {"tags"} for cell in notebook["cells"])
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}
    assert "version" not in notebook["metadata"]["language_info"]
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 400_000


@names
def test_links_lead_somewhere(name):
    text = "\n".join("".join(c["source"]) for c in read(name)["cells"])
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links
    for link in [*links, *(f"../../{p}" for p in re.findall(r"`(examples/\w+\.py)`", text))]:
        assert (FOLDER / link).exists(), link


@names
def test_sizes_are_those_of_the_parameters(name):
    assert parameters(read(name))[1] == set(SMALL[name])


@pytest.mark.parametrize(
    "name",
    [
        # Half a minute each, most of which is tracing.
        pytest.param("black_box", marks=pytest.mark.slow),
        pytest.param("discrete_vae", marks=pytest.mark.slow),
        "permutations",
    ],
)
def test_a_notebook_runs(name, tmp_path):
    notebook = run(name, tmp_path, SMALL[name])
    assert "All as it should be." in [o.get("text", "").strip() for o in outputs(notebook)]
    assert not list(tmp_path.iterdir())  # nothing is left behind


def write(name):
    """Runs a notebook in full, and keeps of its outputs what is no noise of a machine."""
    import tempfile

    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        notebook = run(name, folder)
    for cell in code(notebook):
        kept = []
        for output in cell.outputs:
            if kept and output.get("name") == kept[-1].get("name") == "stdout":
                kept[-1].text += output.text  # printed by one cell, a little later
            elif output.get("name") != "stderr":
                kept.append(output)
        cell.outputs = kept
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    for name in sys.argv[1:] or SMALL:
        print(name, flush=True)
        write(name)
