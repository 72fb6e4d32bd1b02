"""Which estimator is best on a user's own model: variance, bias, time."""

from tf_relax.audit.audit import audit
from tf_relax.audit.report import Report, Row

__all__ = ["Report", "Row", "audit"]
