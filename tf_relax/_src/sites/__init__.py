"""Record and replay: how stochastic layers and training meet."""

from tf_relax._src.sites.dependence import ancestors, depends_on
from tf_relax._src.sites.handler import Handler, current_handler
from tf_relax._src.sites.record import Record, record
from tf_relax._src.sites.replay import Replay
from tf_relax._src.sites.site import Site, Sites

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
