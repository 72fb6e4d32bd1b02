"""Docstrings as the reference shows them: doctests as code, and nothing without a docstring."""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe

# A doctest, from its first prompt to the empty line behind it, as indented as it stands.
_DOCTEST = re.compile(r"(?:^[ ]*>>> .*\n(?:[ ]*\S.*\n?)*\n?)+", re.MULTILINE)


def fenced(docstring: str) -> str:
    """Returns a docstring whose doctests stand between fences, heading included."""

    def block(match: re.Match[str]) -> str:
        code = inspect.cleandoc("\n" + match[0])
        indent = re.match(r"[ ]*", match[0])[0]  # type: ignore[index]
        lines = ["```pycon", *code.splitlines(), "```", ""]
        return "\n".join((indent + line).rstrip() for line in lines) + "\n"

    return re.sub(r"^Examples?:$", "**Example**", _DOCTEST.sub(block, docstring), flags=re.M)


class Docstrings(griffe.Extension):
    """Fences doctests; leaves out what repeats a base class, and so has no docstring of its own."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe with every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(inspect.cleandoc(obj.docstring.value))

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called by griffe with every class, once its members are known."""
        for name, member in list(cls.members.items()):
            if name != "__init__" and not member.is_alias and member.docstring is None:
                del cls.members[name]
