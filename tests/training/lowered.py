"""A training step without variables, which XLA lowers for devices that are not there."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

_GONE = ("Placeholder", "ReadVariableOp", "Assign")


def lowered(step, data: Sequence[tf.Tensor], platform: str) -> str:
    """Returns the StableHLO of a function from data to nothing, which assigns variables.

    TensorFlow lowers for another platform what has no variables. Here their values become
    arguments, and what is assigned to them becomes the result.
    """
    graph = tf.function(step, autograph=False).get_concrete_function(*data).graph
    operations = graph.get_operations()
    reads: dict[str, list[tf.Tensor]] = {}
    for operation in operations:
        if operation.type == "ReadVariableOp":
            reads.setdefault(operation.inputs[0].name, []).append(operation.outputs[0])
    assigned = [op.inputs[1].name for op in operations if op.type.startswith("Assign")]
    resources = {placeholder.name: resource for resource, placeholder in graph.captures}
    values = [
        tf.raw_ops.ReadVariableOp(resource=resources[name], dtype=tensors[0].dtype)
        for name, tensors in reads.items()
    ]
    inputs = [tensor.name for tensor in graph.inputs[: len(data)]]
    definition = _without_variables(graph.as_graph_def())

    @tf.function(jit_compile=True, autograph=False)
    def program(given, held):
        replaced = dict(zip(inputs, given, strict=True))
        for tensors, value in zip(reads.values(), held, strict=True):
            replaced |= {tensor.name: value for tensor in tensors}
        return tf.graph_util.import_graph_def(
            definition, input_map=replaced, return_elements=assigned
        )

    compile_for = program.experimental_get_compiler_ir(list(data), values)
    return compile_for(stage="stablehlo", platform_name=platform)


def _without_variables(definition):
    gone = {node.name for node in definition.node if node.op.startswith(_GONE)}
    kept = tf.compat.v1.GraphDef(library=definition.library, versions=definition.versions)
    for node in definition.node:
        if node.name not in gone:
            copy = kept.node.add()
            copy.CopyFrom(node)
            del copy.input[:]
            copy.input.extend(
                name
                for name in node.input
                if name.removeprefix("^") not in gone or not name.startswith("^")
            )
    return kept
