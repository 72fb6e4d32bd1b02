"""Bounds on the likelihood of models with priors."""

from tf_relax._src.metrics.importance_weighted_bound import importance_weighted_bound

__all__ = ["importance_weighted_bound"]
