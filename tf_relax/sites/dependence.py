"""Which tensors of a graph are computed from which."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf


def depends_on(targets: Iterable[tf.Tensor], sources: Iterable[tf.Tensor]) -> bool:
    """Returns whether any target is computed from any source, differentiably or not.

    Args:
        targets: tensors of the graph that is being traced.
        sources: tensors of the same graph.
    """
    wanted = {source.op for source in sources}
    seen = set()
    stack = [target.op for target in targets]
    while stack:
        operation = stack.pop()
        if operation in wanted:
            return True
        if operation not in seen:
            seen.add(operation)
            stack.extend(tensor.op for tensor in operation.inputs)
            stack.extend(operation.control_inputs)
    return False
