"""Version, changelog, citation and what builds and releases a version agree with each other."""

import datetime
import importlib.util
import json
import pathlib
import re

import pytest
import yaml

import tf_relax

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings it
    import tomli as tomllib

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WORKFLOWS = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in (ROOT / ".github/workflows").glob("*.yml")
}
BASE = "https://github.com/tf-relax/tf-relax"


@pytest.fixture
def release_notes():
    """The script by which the workflow checks a tag; a module of its own for every test."""
    spec = importlib.util.spec_from_file_location("notes", ROOT / ".github/release_notes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def elsewhere(release_notes, tmp_path):
    """The same script in a project that has version 1.2.3."""
    release_notes.ROOT = tmp_path
    (tmp_path / "tf_relax/_src").mkdir(parents=True)
    files = {
        "tf_relax/_src/version.py": '"""A version."""\n\n__version__ = "1.2.3"\n',
        "CHANGELOG.md": (
            "# Changelog\n\n## [Unreleased]\n\n- later\n\n## [1.2.3] - 2030-01-02\n\nA summary.\n\n"
            "### Added\n\n- a thing\n\n## [1.2.2] - 2029-12-31\n\n- earlier\n"
        ),
        "CITATION.cff": "cff-version: 1.2.0\nversion: 1.2.3\ndate-released: 2030-01-02\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return release_notes


# ------------------------------------------------------------------------------ the version


def test_the_version_can_be_released(release_notes):
    notes = release_notes.notes(f"v{tf_relax.__version__}")
    assert not notes.startswith(("#", "-")), "a summary comes first"
    assert len(notes.split("\n\n")[0].split()) > 20


def test_the_changelog_lists_versions_from_the_newest_on(release_notes):
    sections = release_notes.sections((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    newest, *released = sections
    assert newest == "Unreleased"
    assert not sections["Unreleased"][0]
    assert released[0] == tf_relax.__version__
    numbers = [tuple(map(int, name.split("."))) for name in released]
    assert numbers == sorted(numbers, reverse=True)
    dates = [datetime.date.fromisoformat(sections[name][0]) for name in released]
    assert dates == sorted(dates, reverse=True)


def test_a_release_has_the_notes_of_its_version_alone(elsewhere):
    assert elsewhere.notes("v1.2.3") == "A summary.\n\n### Added\n\n- a thing"


@pytest.mark.parametrize(
    ("tag", "name", "old", "new", "said"),
    [
        ("v1.2.4", "CHANGELOG.md", "", "", r"The tag is v1\.2\.4, and .* says 1\.2\.3\."),
        ("1.2.3", "CHANGELOG.md", "", "", r"The tag is 1\.2\.3, and"),
        ("v1.2.3", "CHANGELOG.md", "[1.2.3]", "[1.2.30]", "CHANGELOG.md has no section"),
        ("v1.2.3", "CHANGELOG.md", " - 2030-01-02", "", "CHANGELOG.md has no section"),
        ("v1.2.3", "CITATION.cff", "version: 1.2.3", "version: 1.2.30", "no line 'version: 1.2.3'"),
        ("v1.2.3", "CITATION.cff", "01-02", "01-03", "no line 'date-released: 2030-01-02'"),
    ],
)
def test_what_disagrees_is_not_released(elsewhere, tag, name, old, new, said):
    path = elsewhere.ROOT / name
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(SystemExit, match=said):
        elsewhere.notes(tag)


def test_the_citation(release_notes):
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    assert CITATION["version"] == tf_relax.__version__ == release_notes.version()
    assert isinstance(CITATION["date-released"], datetime.date)
    assert CITATION["license"] == PROJECT["project"]["license"]
    assert CITATION["authors"] == PROJECT["project"]["authors"]
    arxiv = {one["identifiers"][0]["value"]: one["authors"] for one in CITATION["references"]}
    assert arxiv["arXiv:1711.00123"][0]["family-names"] == "Grathwohl"
    assert arxiv["arXiv:1703.07370"][0]["family-names"] == "Tucker"
    for reference in CITATION["references"]:
        assert reference["url"].rpartition("/")[2] in reference["identifiers"][0]["value"]


def test_one_repository():
    urls = PROJECT["project"]["urls"]
    assert set(urls) == {"Homepage", "Documentation", "Source", "Issues", "Changelog"}
    assert CITATION["repository-code"] == BASE == urls["Source"]
    assert all(url.startswith(BASE) for url in urls.values())


# ------------------------------------------------------------------------------ what is built


def test_the_sdist_takes_files_that_exist():
    for name in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]:
        assert (ROOT / name.lstrip("/")).exists(), name


def test_coverage_leaves_nothing_out():
    settings = PROJECT["tool"]["coverage"]
    assert settings["run"]["source"] == ["tf_relax"]
    assert settings["report"]["fail_under"] >= 95
    kept = {*settings["run"], *settings["report"]}
    assert not kept & {"omit", "include", "exclude_lines", "exclude_also"}


# ------------------------------------------------------------------------------ automation


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_actions_are_pinned_to_majors():
    used = [step["uses"] for each in WORKFLOWS.values() for step in steps(each) if "uses" in step]
    assert len(used) > 10
    assert [use for use in used if not re.search(r"@(v\d+|release/v\d+)$", use)] == []


def test_workflows_make_what_there_is():
    commands = [step["run"] for each in WORKFLOWS.values() for step in steps(each) if "run" in step]
    targets = {name for line in commands for name in re.findall(r"^make ([a-z-]+)", line, re.M)}
    assert {"test", "check", "docs", "coverage", "build"} <= targets
    for name in targets:
        assert re.search(rf"^{name}:", MAKEFILE, re.M), name
    scripts = {name for line in commands for name in re.findall(r"\S+\.py\b", line)}
    assert scripts == {
        ".github/release_notes.py",
        "tests/docs/test_site.py",
        "tests/test_smoke.py",
    }
    assert all((ROOT / name).exists() for name in scripts)


def test_only_what_was_tested_is_published():
    jobs = WORKFLOWS["release.yml"]["jobs"]

    def before(name):
        needs = jobs[name].get("needs", [])
        needs = [needs] if isinstance(needs, str) else needs
        return {*needs}.union(*(before(each) for each in needs))

    assert before("publish") == {"build", "wheel", "sdist"}
    assert before("github") == {*jobs} - {"github"}
    assert jobs["publish"]["environment"]["name"] == "release"
    # Nothing but the two jobs that have to may write.
    assert WORKFLOWS["release.yml"]["permissions"] == {"contents": "read"}
    permissions = {name: job["permissions"] for name, job in jobs.items() if "permissions" in job}
    assert permissions == {"publish": {"id-token": "write"}, "github": {"contents": "write"}}


def test_hooks_format_as_make_does():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (rev,) = (repo["rev"] for repo in hooks if repo["repo"].endswith("/ruff-pre-commit"))
    (ruff,) = (
        line
        for line in PROJECT["project"]["optional-dependencies"]["test"]
        if line.startswith("ruff")
    )
    least, limit = re.fullmatch(r"ruff>=(\d+\.\d+),<(\d+\.\d+)", ruff).groups()
    assert rev.startswith(f"v{least}.")
    assert int(limit.split(".")[1]) == int(least.split(".")[1]) + 1


def test_the_oldest_versions_are_raised_by_hand():
    bot = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text(encoding="utf-8"))
    by_kind = {each["package-ecosystem"]: each for each in bot["updates"]}
    assert by_kind.keys() == {"pip", "github-actions"}
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "requirements-oldest.txt").read_text(), re.M)
    assert [each["dependency-name"] for each in by_kind["pip"]["ignore"]] == pinned


@pytest.mark.parametrize("name", ["bug", "question"])
def test_a_form_asks_for_what_it_takes(name):
    path = ROOT / ".github/ISSUE_TEMPLATE" / f"{name}.yml"
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    fields = {each["id"]: each for each in form["body"] if each["type"] != "markdown"}
    assert all(each["attributes"]["label"] for each in fields.values())
    if name == "bug":
        assert {"versions", "model", "estimator", "traceback"} <= fields.keys()
        needed = {key for key, each in fields.items() if each.get("validations")}
        assert {"versions", "model", "estimator"} <= needed


def test_the_script_of_the_form_runs_and_so_does_its_model(capsys):
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text(encoding="utf-8"))
    fields = {each["id"]: each["attributes"] for each in form["body"] if "id" in each}
    (command,) = re.findall(r'`python -c "(.+)"`', fields["versions"]["description"])
    exec(compile(command, "versions", "exec"), {})
    assert f"('tf_relax', '{tf_relax.__version__}')" in capsys.readouterr().out
    exec(compile(fields["model"]["placeholder"], "model", "exec"), {})
    assert "loss" in capsys.readouterr().out


# ------------------------------------------------------------------------------ for contributors


def test_contributing_names_every_target_and_nothing_else():
    helped = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.M))
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.M)
    targets = set(phony.replace("\\\n", " ").split())
    assert helped | {"install"} == targets
    named = set(re.findall(r"\bmake ([a-z-]+)\b", " ".join(re.findall("`(.+?)`", CONTRIBUTING))))
    assert targets - {"help"} <= named
    assert named <= targets


def test_what_contributing_names_exists():
    links = re.findall(r"\]\(([^)#:]+)\)", CONTRIBUTING)
    files = re.findall(r"`((?:[\w.-]+/)+(?:[\w.]+)?|\.ci/run)`", CONTRIBUTING)
    made = ("build/",)
    assert len(links) > 0
    assert len(files) > 20
    for name in [*links, *files]:
        assert name.startswith(made) or (ROOT / name).exists(), name


def test_results_that_a_release_attaches_are_there_and_read():
    found = list((ROOT / "benchmarks/results").rglob("*.json"))
    assert len(found) > 5
    for path in found:
        assert json.loads(path.read_text(encoding="utf-8")), path
