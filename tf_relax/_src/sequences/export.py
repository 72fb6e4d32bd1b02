"""SavedModels that decode without Python."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.sequences.decoder import as_given, as_integers
from tf_relax._src.sequences.drawing import drawn


def export_saved_model(model: Any, filepath: Any, verbose: Any, input_signature: Any) -> None:
    """Writes a SavedModel with the endpoints `serve` and `sample`.

    Args:
        model: a `SequenceModel`.
        filepath: folder to write.
        verbose: as of `keras.Model.export`.
        input_signature: of the inputs; `None` is that which the model was built for.

    Raises:
        ValueError: for a model that has not been built.
    """
    if not model.built:
        raise ValueError(
            f"SequenceModel '{model.name}' has not seen a prompt yet: call it on one, or `fit`."
        )
    if input_signature is None:
        *context, prompt = [tf.TensorShape([None, *shape[1:]]) for shape in model.input_shapes]
        specs = [tf.TensorSpec(shape, tf.float32) for shape in context]
        input_signature = as_given([*specs, tf.TensorSpec(prompt, tf.int32)])

    def sample(inputs: Any, seed: tf.Tensor) -> tf.Tensor:
        return drawn(model.language, as_integers(inputs), seed).tokens

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.call, [input_signature])
    archive.add_endpoint("sample", sample, [input_signature, tf.TensorSpec([2], tf.int32)])
    archive.write_out(filepath, **({} if verbose is None else {"verbose": verbose}))
