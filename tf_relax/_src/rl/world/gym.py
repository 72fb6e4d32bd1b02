"""Gymnasium, or an error that says how to get it: the only part of the package that needs it."""

from __future__ import annotations

try:
    import gymnasium
except ImportError as error:
    raise ImportError(
        "tf_relax.rl runs on Gymnasium environments, and gymnasium is not installed: "
        "pip install 'tf-relax[rl]'."
    ) from error

__all__ = ["gymnasium"]
