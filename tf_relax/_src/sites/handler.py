"""The meeting point of layers and training: who is listening when a stochastic layer is called."""

from __future__ import annotations

import abc
import threading
from typing import Any

import tensorflow as tf

from tf_relax._src.compat import inside_eager_loop
from tf_relax._src.sites.layer import StochasticLayer
from tf_relax._src.sites.site import Site

_stack = threading.local()


def current_handler() -> Handler | None:
    """Returns the innermost active handler of this thread, or `None`."""
    handlers = getattr(_stack, "handlers", ())
    return handlers[-1] if handlers else None


def _current_graph() -> Any:
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


class Handler(abc.ABC):
    """Decides what stochastic layers return while its `with` block is active.

    Attributes:
        relaxed: whether layers may return relaxed samples instead of hard ones.
        always_samples: whether layers sample even where their `inference` mode would not.
        divergence: overrides how layers compute the divergence from their prior, or `None`.
    """

    relaxed = False
    always_samples = False
    divergence: str | None = None

    def __enter__(self) -> Any:
        if not hasattr(_stack, "handlers"):
            _stack.handlers = []
        self._graph = _current_graph()
        _stack.handlers.append(self)
        return self

    def __exit__(self, *exception: Any) -> None:
        _stack.handlers.remove(self)

    @abc.abstractmethod
    def visit(
        self,
        layer: StochasticLayer,
        logits: tf.Tensor,
        context: tf.Tensor | None,
        mask: tf.Tensor | None = None,
    ) -> Site:
        """Answers one call of a stochastic layer with its site."""

    def _check_graph(self, layer: StochasticLayer, logits: tf.Tensor) -> None:
        # A sample drawn in the graph of a loop body or of an inner function does not exist outside
        # of it: its gradient would be lost without a word. Eagerly, a map_fn is a Python loop, and
        # shows in logits that have lost their batch dimension.
        same_rank = logits.shape.rank == layer.logits_rank
        if _current_graph() is not self._graph or (not same_rank and inside_eager_loop()):
            raise RuntimeError(
                f"{type(layer).__name__} '{layer.name}' was called inside a tf.map_fn, the loop of "
                "a recurrent layer or a tf.function of its own, where its sample cannot be "
                "recorded and would train with a wrong gradient. Call the layer on the whole "
                "batch, use `unroll=True` for recurrent layers, remove the inner tf.function, and "
                "inside `tf_relax.record()` call the model itself instead of `predict`."
            )
        if not same_rank:
            raise ValueError(
                f"{type(layer).__name__} '{layer.name}' was built for logits of rank "
                f"{layer.logits_rank} and called with logits of shape {tuple(logits.shape)}, rank "
                f"{logits.shape.rank}. The events of one layer have one shape: use a layer of its "
                "own for each rank."
            )
