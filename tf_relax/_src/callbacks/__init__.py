"""Callbacks for `fit`."""

from tf_relax._src.callbacks.backup_and_restore import BackupAndRestore
from tf_relax._src.callbacks.gradient_variance import GradientVariance
from tf_relax._src.callbacks.watch import Watch

__all__ = ["BackupAndRestore", "GradientVariance", "Watch"]
