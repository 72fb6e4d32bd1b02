"""An environment in a trainer's file: a name or a specification, and never a program."""

from __future__ import annotations

import sys
from typing import Any

from tf_relax._src.rl.world.environments import Environments
from tf_relax._src.rl.world.gym import gymnasium


def saved(given: Any, environments: Environments) -> str | None:
    """Returns an id or a specification, as JSON, that makes the environment again; or `None`."""
    if isinstance(given, str):
        return given
    vector = environments.vector
    envs = getattr(vector, "envs", None)
    if vector is not vector.unwrapped or not envs:
        return None  # wrappers of vector environments are part of no specification
    spec = envs[0].spec
    if spec is None or any(env.spec != spec for env in envs):
        return None
    if any(wrapper.kwargs is None for wrapper in spec.additional_wrappers):
        return None
    try:
        return spec.to_json()
    except (TypeError, ValueError):
        return None  # made with arguments that are more than numbers and strings


def restored(text: str) -> Any:
    """Returns the id or the specification that a trainer's file names.

    A specification names a class to import and what to call it with, so a file could have anything
    called. Only what the running program has registered with Gymnasium is made, in wrappers that
    it has imported.

    Args:
        text: what `saved` returned.

    Raises:
        ValueError: for anything else.
    """
    if not text.startswith("{"):
        module = text.partition(":")[0] if ":" in text else None  # which Gymnasium would import
        if module is not None and module not in sys.modules:
            raise _untrusted(text, f"import {module}")
        return text
    try:
        spec = gymnasium.envs.registration.EnvSpec.from_json(text)
    except Exception as error:
        raise _untrusted(text[:80], "make it anew") from error
    known = gymnasium.registry.get(spec.id)
    if known is None or (known.entry_point, known.vector_entry_point) != (
        spec.entry_point,
        spec.vector_entry_point,
    ):
        raise _untrusted(spec.id, "import the module that registers it")
    for wrapper in spec.additional_wrappers:
        module, _, name = wrapper.entry_point.partition(":")
        found = getattr(sys.modules.get(module), name, None)
        if not (isinstance(found, type) and issubclass(found, gymnasium.Wrapper)):
            raise _untrusted(f"the wrapper {wrapper.name}", f"import {module}")
        if issubclass(found, gymnasium.wrappers.RecordVideo):  # to a folder that the file names
            raise _untrusted(f"the wrapper {wrapper.name}", "make the environment yourself")
    return spec


def _untrusted(what: str, remedy: str) -> ValueError:
    return ValueError(
        f"The file names {what}, which this program does not know, and a file must not have code "
        f"run that the program would not. If you trust it, {remedy} before you load it, or give "
        "the environment: tf_relax.rl.load(path, env=...)."
    )
