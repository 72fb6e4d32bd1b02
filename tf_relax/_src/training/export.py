"""SavedModels of models with stochastic layers: samples, fresh or by a seed, modes and means."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.compat import input_signature as signature_of
from tf_relax._src.layers.serving import Serving
from tf_relax._src.relaxations import KnownMean

_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def export_saved_model(
    model: Any, filepath: Any, verbose: Any = None, input_signature: Any = None
) -> None:
    """Writes a SavedModel with the endpoints `serve`, `seeded`, `mode` and `probabilities`.

    Args:
        model: a built `RelaxModel`.
        filepath: folder to write.
        verbose: as of `keras.Model.export`.
        input_signature: likewise.

    Raises:
        ValueError: for a model that runs Python code, which a SavedModel cannot hold.
    """
    signature = signature_of(model) if input_signature is None else list(input_signature)

    def serve(*inputs: Any) -> Any:
        # Of seeds 0 the op makes others in every process. (`tf.random.uniform` would take those of
        # this process, and every reload of the file would repeat them.)
        low, high = tf.int32.limits
        seed = tf.raw_ops.RandomUniformInt(shape=[2], minval=low, maxval=high, seed=0, seed2=0)
        with Serving(seed=seed):
            return model(*inputs, training=False)

    def seeded(*inputs: Any) -> Any:
        with Serving("sample", seeds=inputs[-1]):
            return model(*inputs[:-1], training=False)

    def mode(*inputs: Any) -> Any:
        with Serving("mode"):
            return model(*inputs, training=False)

    def probabilities(*inputs: Any) -> Any:
        with Serving("mode") as serving:
            model(*inputs, training=False)
        return serving.means

    archive = keras.export.ExportArchive()
    archive.track(model)
    endpoints = [(serve, signature), (mode, signature)]
    endpoints.insert(1, (seeded, [*signature, tf.TensorSpec([None], tf.int64, name="seeds")]))
    if any(isinstance(layer.relaxation, KnownMean) for layer in model.stochastic_layers):
        endpoints.append((probabilities, signature))
    for function, inputs in endpoints:
        traced = archive.add_endpoint(function.__name__, function, inputs)
        _check(model, traced.get_concrete_function().graph)
    options = {} if verbose is None else {"verbose": verbose}
    archive.write_out(filepath, **options)


def _check(model: Any, graph: Any) -> None:
    """Raises a ValueError if a graph calls back into this process."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    if not any(node.op in _PYTHON for node in nodes):
        return
    found = [
        f"{type(x).__name__} '{x.name}'" for x in model.stochastic_layers if not x.supports_jit
    ]
    whose = " and ".join(found) or "a layer"
    raise ValueError(
        f"RelaxModel '{model.name}' cannot be exported: {whose} runs Python code (an assignment "
        "solved by SciPy, a tf.py_function), which stays behind in this process. Serve the model "
        "from Python by `model.save`, or use layers.RelaxPermutation, which is a graph."
    )
