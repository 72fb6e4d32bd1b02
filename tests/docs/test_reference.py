"""The reference documents every public name, and nothing twice."""

import importlib
import pathlib
import re
import types

import tf_relax

DOCS = pathlib.Path(__file__).parents[2] / "docs"
FACES = [path.stem for path in pathlib.Path(tf_relax.__file__).parent.glob("[!_]*.py")]


def resolved(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def documented():
    for page in sorted((DOCS / "api").glob("*.md")):
        yield from re.findall(r"^::: (\S+)$", page.read_text(), flags=re.MULTILINE)


def public():
    """Every public object, by the places where it can be found."""
    names = [f"tf_relax.{name}" for name in tf_relax.__all__ if name != "__version__"]
    names += ["tf_relax._src.audit.Report", "tf_relax._src.audit.Row"]  # what audit returns
    for face in FACES:
        names += [
            f"tf_relax.{face}.{n}" for n in importlib.import_module(f"tf_relax.{face}").__all__
        ]
    found = {}
    for name in names:
        value = resolved(name)
        if not isinstance(value, types.ModuleType):
            found.setdefault(id(value), []).append(name)
    return found


def test_every_public_name_stands_in_the_reference_once():
    names = list(documented())
    assert len(names) == len(set(names))
    once = {}
    for name in names:
        assert once.setdefault(id(resolved(name)), name) == name
    missing = [places for key, places in public().items() if key not in once]
    assert not missing


def test_nothing_private_stands_there():
    objects = public()
    assert [name for name in documented() if id(resolved(name)) not in objects] == []


def test_every_page_of_the_reference_is_in_its_index():
    index = (DOCS / "api/index.md").read_text()
    for page in (DOCS / "api").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name
