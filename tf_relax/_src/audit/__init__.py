"""Which estimator is best on a user's own model: variance, bias, time."""

from tf_relax._src.audit.audit import audit
from tf_relax._src.audit.report import Report, Row

__all__ = ["Report", "Row", "audit"]


def __dir__() -> list[str]:
    return __all__
