"""Imports point downwards, and a face shows what it exports."""

import ast
import importlib
import pathlib

import pytest

import tf_relax

PACKAGE = pathlib.Path(tf_relax.__file__).parent

# From the ground up. A module may import from those below its floor, and from its own folder.
FLOORS = [
    ["version", "compat", "updates"],
    ["relaxations"],
    ["rules", "surrogates"],
    ["sites"],
    ["layers", "losses"],
    ["estimators"],
    ["training"],
    ["_audit", "callbacks", "metrics", "rl"],
    ["__init__"],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def imports(source):
    """Names of the parts of the package that a module imports from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "tf_relax":
            names = [f"tf_relax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [node.module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "tf_relax" and len(parts) > 1:
                yield parts[1]


def upwards(part, source):
    """What a part of the package must not import, and does."""
    return [name for name in imports(source) if name != part and FLOOR[name] >= FLOOR[part]]


def parts():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_no_import_points_upwards():
    found = {str(path): upwards(part, path.read_text()) for path, part in parts()}
    assert {path: names for path, names in found.items() if names} == {}


# Where a policy acts, what gradient it follows, how far it steps; and what puts them together.
ROLES = ["world", "gradient", "steps"]


def roles(source):
    """What a module of policy gradients imports from others: a role, or the name of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "tf_relax.rl":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("tf_relax.rl."):
            yield node.module.split(".")[2]


def test_roles_of_policy_gradients_point_downwards_as_well():
    for level, role in enumerate(ROLES):
        paths = list((PACKAGE / "rl" / role).glob("*.py"))
        assert len(paths) > 3
        for path in paths:
            assert set(roles(path.read_text())) <= set(ROLES[: level + 1]), path


def test_every_part_has_a_floor():
    assert {part for _, part in parts()} == FLOOR.keys()


@pytest.mark.parametrize(
    ("part", "source", "found"),
    [
        ("sites", "from tf_relax.training import RelaxModel", ["training"]),
        ("sites", "import tf_relax.layers.mask", ["layers"]),
        ("relaxations", "def f():\n    from tf_relax import rules", ["rules"]),
        ("layers", "from tf_relax.losses import BlackBox", ["losses"]),  # side by side
        ("layers", "from tf_relax.layers.mask import restricted", []),
        ("rl", "from tf_relax import relaxations, rules", []),
    ],
)
def test_an_import_upwards_is_found(part, source, found):
    assert upwards(part, source) == found


@pytest.mark.parametrize(
    "name",
    [
        *("callbacks", "estimators", "layers", "losses", "metrics", "relaxations", "rl", "sites"),
        *("surrogates", "training"),
    ],
)
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
    lengths = {str(path): len(path.read_text().splitlines()) for path, _ in parts()}
    assert {path: n for path, n in lengths.items() if n > 400} == {}
