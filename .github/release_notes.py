"""What the changelog says of a version, for the page of its release.

    python .github/release_notes.py v0.1.0

Fails with one line if the tag is not that of the version of the package, or if the changelog or
the citation do not know that version. Needs nothing but Python.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def version() -> str:
    """Returns the version of the package, without importing it."""
    text = (ROOT / "tf_relax/_src/version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)[1]


def sections(changelog: str) -> dict[str, tuple[str, str]]:
    """Returns date and text of every version of a changelog, the newest first.

    What is not released has the name "Unreleased" and no date.
    """
    parts = re.split(r"^## \[(.+?)\](?: - (.+))?\n", changelog, flags=re.MULTILINE)[1:]
    return {
        name: (date or "", text.strip())
        for name, date, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


def notes(tag: str) -> str:
    """Returns the section of the version that a tag names.

    Raises:
        SystemExit: unless it is the version of the package, with a date in changelog and citation.
    """
    found = version()
    if tag != f"v{found}":
        raise SystemExit(f"The tag is {tag}, and tf_relax/_src/version.py says {found}.")
    date, text = sections((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")).get(found, ("", ""))
    if not date or not text:
        raise SystemExit(f"CHANGELOG.md has no section '## [{found}] - YYYY-MM-DD' with a text.")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    for line in (f"version: {found}", f"date-released: {date}"):
        if line not in citation.splitlines():
            raise SystemExit(f"CITATION.cff has no line '{line}'.")
    return text


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("Give the tag: python .github/release_notes.py v0.1.0")
    print(notes(sys.argv[1]))
