"""Record and replay: how stochastic layers and training meet."""

from tf_relax.sites.dependence import ancestors, depends_on
from tf_relax.sites.handler import Handler, current_handler
from tf_relax.sites.record import Record, record
from tf_relax.sites.replay import Replay
from tf_relax.sites.site import Site, Sites

__all__ = [
    "Handler",
    "Record",
    "Replay",
    "Site",
    "Sites",
    "ancestors",
    "current_handler",
    "depends_on",
    "record",
]


def __dir__() -> list[str]:
    return __all__
