"""Which tensors of a graph are computed from which."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf


def ancestors(targets: Iterable[tf.Tensor]) -> set[tf.Operation]:
    """Returns all operations that some of the targets are computed by, control inputs included.

    Args:
        targets: tensors of the graph that is being traced.
    """
    seen: set[tf.Operation] = set()
    stack = [target.op for target in targets]
    while stack:
        operation = stack.pop()
        if operation not in seen:
            seen.add(operation)
            stack.extend(tensor.op for tensor in operation.inputs)
            stack.extend(operation.control_inputs)
    return seen


def depends_on(targets: Iterable[tf.Tensor], sources: Iterable[tf.Tensor]) -> bool:
    """Returns whether any target is computed from any source, differentiably or not.

    Args:
        targets: tensors of the graph that is being traced.
        sources: tensors of the same graph.
    """
    return not ancestors(targets).isdisjoint(source.op for source in sources)
