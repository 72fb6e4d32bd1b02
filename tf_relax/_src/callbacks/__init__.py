"""Callbacks for `fit`."""

from tf_relax._src.callbacks.gradient_variance import GradientVariance

__all__ = ["GradientVariance"]
