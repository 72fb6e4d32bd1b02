"""The part of a model of sequences that draws and scores them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.relaxations.noise import seed_pair
from tf_relax._src.sequences import check
from tf_relax._src.sequences.decoder import as_given, as_integers, as_list, read
from tf_relax._src.sequences.drawing import (
    Language,
    Sequences,
    drawn,
    drawn_without_replacement,
)
from tf_relax._src.sequences.export import export_saved_model
from tf_relax._src.sequences.learner import scored


class Distribution(keras.Model):
    """The distribution of the sequences of a `SequenceModel`, with its arguments."""

    def __init__(
        self,
        decoder: keras.Model,
        max_length: int,
        stop_token: int | None = None,
        temperature: float = 1.0,
        reference: keras.Model | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check.arguments(self.name, max_length, stop_token, temperature)
        self.decoder = decoder
        self.max_length, self.stop_token = max_length, stop_token
        self.temperature = temperature
        self.reference = reference
        if reference is not None:
            reference.trainable = False
        self.seeds = keras.random.SeedGenerator()
        # A graph: step by step, a loop would take longer than what is in it.
        self._draw_in_graph = tf.function(self._draw, autograph=False, reduce_retracing=True)

    @property
    def language(self) -> Language:
        """The distribution of the sequences."""
        return Language(
            self.decoder, self.max_length, self.stop_token, self.temperature, self._dtype
        )

    @property
    def _dtype(self) -> tf.DType:
        wide = any(v.dtype == "float64" for v in self.decoder.variables)
        return tf.float64 if wide else tf.float32

    def build(self, input_shape: Any) -> None:
        self.input_shapes = check.shapes_of(input_shape)
        *context, prompt = self.input_shapes
        length = (prompt[-1] or 1) + self.max_length - 1
        inputs = [keras.Input(batch_shape=shape) for shape in context]
        inputs.append(keras.Input(batch_shape=(prompt[0], length), dtype="int32"))
        for model in filter(None, (self.decoder, self.reference)):
            context, tokens = read(model, inputs, 1)
            logits = model(as_given([*context, tokens]), training=False)
            check.logits(self.name, model, inputs[-1].shape, logits.shape, self.stop_token)
            if model is self.decoder:
                self.vocabulary = int(logits.shape[-1])
            elif logits.shape[-1] != self.vocabulary:
                raise ValueError(
                    f"SequenceModel '{self.name}': the reference has logits of {logits.shape[-1]} "
                    f"tokens, the decoder of {self.vocabulary}."
                )
        self.built = True

    def call(self, inputs: Any, training: Any = None) -> tf.Tensor:
        """Returns the most probable next token again and again, `[batch, max_length]`."""
        inputs = as_integers(inputs)
        return drawn(self.language, inputs, None, prompts_of_each(inputs)).tokens

    def sample(self, x: Any, num_samples: int = 1, seed: int | None = None) -> Sequences:
        """Draws sequences.

        Args:
            x: prompts, `[batch, tokens]`, after the tensors of a context if there is one.
            num_samples: sequences per prompt, side by side: `[batch * num_samples, max_length]`.
                Prompts of shape `[batch, num_samples, tokens]` are one for each.
            seed: of the noise; `None` draws other sequences each time.
        """
        inputs = self._checked(x)
        return self._draw_in_graph(inputs, self._seed(seed), num_samples)

    def sample_without_replacement(
        self, x: Any, num_samples: int, seed: int | None = None
    ) -> Sequences:
        """Draws different sequences of every prompt, by stochastic beam search.

        Args:
            x: as of `sample`.
            num_samples: sequences per prompt, side by side.
            seed: of the noise.

        Raises:
            ValueError: if a prompt has fewer sequences than that.
        """
        inputs = self._checked(x)
        sequences, exists = self._draw_in_graph(inputs, self._seed(seed), num_samples, True)
        check.all_exist(self.name, np.asarray(exists), num_samples)
        return sequences

    def log_prob(self, x: Any, sequences: Sequences) -> tf.Tensor:
        """Returns the log-probabilities of sequences, `[batch]`.

        Args:
            x: their prompts.
            sequences: as `sample` returns them, one for every prompt.
        """
        inputs = self._checked(x)
        logits, b = scored(self, inputs, sequences, 1)
        tokens = tf.reduce_sum(b * tf.nn.log_softmax(logits), axis=-1)
        return tf.reduce_sum(tokens * sequences.mask, axis=-1)

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: Any = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Exports a SavedModel with two endpoints.

        `serve(inputs)` returns the most probable next token again and again, `[batch, max_length]`;
        `sample(inputs, seed)` draws sequences by the noise of a seed, a pair of int32.

        Args:
            filepath: where to.
            format: `"tf_saved_model"`.
            verbose: as of `keras.Model.export`.
            input_signature: of the inputs; by default those that the model was built for.
            **kwargs: of other formats, of which there are none.

        Raises:
            ValueError: for another format, and for a model that has not been built.
        """
        if format != "tf_saved_model" or kwargs:
            raise ValueError(
                f"SequenceModel '{self.name}' is exported as 'tf_saved_model'. Received: {format!r}"
            )
        export_saved_model(self, filepath, verbose, input_signature)

    def _draw(
        self, inputs: Any, seed: tf.Tensor, count: int, without_replacement: bool = False
    ) -> Any:
        check.count(self.name, as_list(inputs)[-1], count, without_replacement)
        if without_replacement:
            return drawn_without_replacement(self.language, inputs, count, seed)
        return drawn(self.language, inputs, seed, count)

    def _seed(self, seed: Any) -> tf.Tensor:
        return seed_pair(self.seeds if seed is None else seed)

    def _build_for(self, inputs: Any) -> None:
        if not self.built:
            self(
                keras.tree.map_structure(
                    lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), inputs
                )
            )

    def _checked(self, x: Any) -> Any:
        inputs = as_integers(keras.tree.map_structure(tf.convert_to_tensor, x))
        check.prompts(self.name, as_list(inputs)[-1])
        self._build_for(inputs)
        check.tokens(self.name, as_list(inputs)[-1], self.vocabulary)
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "max_length": self.max_length,
            "stop_token": self.stop_token,
            "temperature": self.temperature,
            "reference": self.reference and keras.saving.serialize_keras_object(self.reference),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Distribution:
        models = {
            key: config[key] and keras.saving.deserialize_keras_object(config[key], custom_objects)
            for key in ("decoder", "reference")
        }
        return cls(**{**config, **models})


def prompts_of_each(inputs: Any) -> int:
    """Returns how many prompts an example has: 1, unless every sequence has one of its own."""
    prompt = as_list(inputs)[-1]
    return prompt.shape[1] if prompt.shape.rank == 3 else 1
