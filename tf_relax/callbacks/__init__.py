"""Callbacks for `fit`."""

from tf_relax.callbacks.gradient_variance import GradientVariance

__all__ = ["GradientVariance"]


def __dir__() -> list[str]:
    return __all__
