"""Imports point downwards, and a face shows what it exports."""

import ast
import importlib
import pathlib

import pytest

import tf_relax

PACKAGE = pathlib.Path(tf_relax.__file__).parent
SRC = PACKAGE / "_src"

# From the ground up. A module may import from those below its floor, and from its own folder.
FLOORS = [
    ["version", "compat", "numbers", "pages", "updates", "whole_files"],
    ["relaxations"],
    ["rules", "surrogates"],
    ["critic"],
    ["sites"],
    ["layers", "losses"],
    ["estimators"],
    ["training"],
    ["audit", "callbacks", "metrics", "rl", "sequences"],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def imports(source):
    """Names of the parts of the implementation that a module of it imports from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "tf_relax._src":
            names = [f"tf_relax._src.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [node.module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "tf_relax":
                assert parts[1:2] == ["_src"], f"the implementation imports a face: {name}"
                yield parts[2]


def upwards(part, source):
    """What a part of the implementation must not import, and does."""
    return [name for name in imports(source) if name != part and FLOOR[name] >= FLOOR[part]]


def parts():
    for path in sorted(SRC.rglob("*.py")):
        part = path.relative_to(SRC).parts[0].removesuffix(".py")
        if part != "__init__":
            yield path, part


def test_no_import_points_upwards():
    found = {str(path): upwards(part, path.read_text()) for path, part in parts()}
    assert {path: names for path, names in found.items() if names} == {}


# Where a policy acts, what gradient it follows, how far it steps; and what puts them together.
ROLES = ["world", "gradient", "steps"]


def roles(source):
    """What a module of policy gradients imports from others: a role, or the name of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "tf_relax._src.rl":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("tf_relax._src.rl."):
            yield node.module.split(".")[3]


def test_roles_of_policy_gradients_point_downwards_as_well():
    for level, role in enumerate(ROLES):
        paths = list((SRC / "rl" / role).glob("*.py"))
        assert len(paths) > 3
        for path in paths:
            assert set(roles(path.read_text())) <= set(ROLES[: level + 1]), path


def test_every_part_has_a_floor():
    assert {part for _, part in parts()} == FLOOR.keys()


@pytest.mark.parametrize(
    ("part", "source", "found"),
    [
        ("sites", "from tf_relax._src.training import RelaxModel", ["training"]),
        ("sites", "import tf_relax._src.layers.mask", ["layers"]),
        ("relaxations", "def f():\n    from tf_relax._src import rules", ["rules"]),
        ("layers", "from tf_relax._src.losses import BlackBox", ["losses"]),  # side by side
        ("layers", "from tf_relax._src.layers.mask import restricted", []),
        ("rl", "from tf_relax._src import relaxations, rules", []),
    ],
)
def test_an_import_upwards_is_found(part, source, found):
    assert upwards(part, source) == found


FACES = [path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"]


def test_an_import_of_a_face_is_found():
    with pytest.raises(AssertionError, match="imports a face"):
        upwards("training", "from tf_relax.layers import Stochastic")


def test_every_part_that_exports_has_a_face():
    exporting = {
        path.parent.stem if path.stem == "__init__" else path.stem
        for path in [*SRC.glob("*/__init__.py"), *SRC.glob("*.py")]
        if "\n__all__ = " in path.read_text()
    }
    assert set(FACES) == exporting - {"audit"}  # the package exports the function of that name


@pytest.mark.parametrize("name", sorted(FACES))
def test_a_face_shows_what_it_exports_and_nothing_else(name):
    module = importlib.import_module(f"tf_relax.{name}")
    assert sorted(dir(module)) == sorted(module.__all__)
    for exported in module.__all__:
        assert hasattr(module, exported), exported


def test_the_package_shows_its_faces():
    assert set(dir(tf_relax)) == {*tf_relax.__all__, "rl"}
    assert callable(tf_relax.audit)


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").exists()


def test_no_file_is_longer_than_400_lines():
    root = PACKAGE.parent
    folders = [PACKAGE, *(root / name for name in ("examples", "benchmarks", "docs"))]
    paths = [*root.glob("*.md"), *(p for f in folders for p in f.rglob("*.*"))]
    texts = {str(p): p.read_text() for p in paths if p.suffix in (".py", ".md")}
    assert {path for path, text in texts.items() if len(text.splitlines()) > 400} == set()
