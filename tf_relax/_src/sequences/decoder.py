"""What gives the logits of the next token, and what it remembers of the tokens before."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

# Tensors whose first axis is that of the sequences.
Memory = Any


@keras.saving.register_keras_serializable(package="tf_relax")
class Decoder(keras.Model):
    r"""Base of models of the next token that remember what they have read.

    $$p(y) = \prod_t p(y_t \mid y_1, \ldots, y_{t-1})$$

    `call` computes the logits of all tokens of given sequences at once, by which they are scored;
    `begin` and `advance` those of one token after the other, by which they are drawn. Both have to
    be the same function, but for rounding. Models that are no `Decoder` need `call` alone, and are
    called anew for every token. What is computed of a context by `encode` is shared by all
    sequences of a prompt.

    Example:

    >>> import keras, tensorflow as tf
    >>> class Last(Decoder):  # remembers nothing but the latest token
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.next = keras.layers.Embedding(4, 4)
    ...     def call(self, tokens):
    ...         return self.next(tokens)
    ...     def begin(self, prompt):
    ...         return self.next(prompt[:, -1]), ()
    ...     def advance(self, token, memory):
    ...         return self.next(token), memory
    >>> Last()(tf.zeros((2, 3), "int32")).shape
    TensorShape([2, 3, 4])
    """

    def build_from_config(self, config: Any) -> None:
        """Leaves its variables to the `SequenceModel` that it is part of, which calls it."""

    def encode(self, context: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns what `call` and `begin` are given in the place of the context: by default itself.

        Args:
            context: its tensors, one row per prompt.
        """
        return context

    def call(self, inputs: Any) -> tf.Tensor:
        """Returns the logits of the token after every token, `[batch, tokens, vocabulary]`.

        Args:
            inputs: tokens, `[batch, tokens]` integers; where there is a context, a list of its
                encoded tensors and, last, the tokens.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement `call`.")

    def begin(self, inputs: Any) -> tuple[tf.Tensor, Memory]:
        """Returns the logits of the token after a prompt, and what to remember.

        Args:
            inputs: as those of `call`, the prompt in the place of the tokens.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement `begin`.")

    def advance(self, token: tf.Tensor, memory: Memory) -> tuple[tf.Tensor, Memory]:
        """Returns the logits of the token after one more, and what to remember.

        Args:
            token: the latest, `[batch]`.
            memory: what `begin`, or `advance` before, has returned: tensors, however nested, whose
                first axis is that of the sequences.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement `advance`.")


class Rereading:
    """Draws from a model that has no memory: it reads all tokens again for every new one.

    Args:
        model: from tokens, after the tensors of a context, to the logits of the next.
        max_length: of the sequences.
    """

    def __init__(self, model: keras.Model, max_length: int):
        self.model = model
        self.max_length = max_length

    def begin(self, inputs: Any) -> tuple[tf.Tensor, Memory]:
        *context, prompt = as_list(inputs)
        # Tokens that are not there yet: a causal model does not look at them.
        tokens = tf.pad(prompt, [[0, 0], [0, self.max_length - 1]])
        position = tf.fill(tf.shape(prompt)[:1], tf.shape(prompt)[1])
        return self._next(context, tokens, position), (context, tokens, position)

    def advance(self, token: tf.Tensor, memory: Memory) -> tuple[tf.Tensor, Memory]:
        context, tokens, position = memory
        here = tf.range(tf.shape(tokens)[1]) == position[:, tf.newaxis]
        tokens = tf.where(here, token[:, tf.newaxis], tokens)
        position += 1
        return self._next(context, tokens, position), (context, tokens, position)

    def _next(self, context: Any, tokens: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        logits = self.model(as_given([*context, tokens]), training=False)
        latest = tf.minimum(position, tf.shape(tokens)[1]) - 1
        return tf.gather(logits, latest, axis=1, batch_dims=1)


def read(
    model: keras.Model, inputs: Any, sequences_per_prompt: int
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Returns context, encoded, and prompts of every sequence.

    Args:
        model: the decoder.
        inputs: of every prompt.
        sequences_per_prompt: how often each is repeated; a prompt of each sequence, `[batch,
            sequences, tokens]`, is not.
    """
    *context, prompt = as_list(inputs)
    if context and isinstance(model, Decoder):
        context = model.encode(context)
    if len(prompt.shape) == 3:
        prompt = tf.reshape(prompt, [-1, prompt.shape[-1]])
    else:
        prompt = repeated(prompt, sequences_per_prompt)
    return [repeated(x, sequences_per_prompt) for x in context], prompt


def repeated(inputs: Any, count: int) -> Any:
    """Returns every row several times, side by side."""
    if count == 1:
        return inputs
    return keras.tree.map_structure(lambda x: tf.repeat(x, count, axis=0), inputs)


def with_memory(model: keras.Model, max_length: int) -> Any:
    """Returns what has `begin` and `advance`: a model that has them, or one that reads again."""
    return model if isinstance(model, Decoder) else Rereading(model, max_length)


def as_list(inputs: Any) -> list[tf.Tensor]:
    """Returns the tensors of a context and, last, the tokens."""
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]


def as_given(inputs: list[tf.Tensor]) -> Any:
    """Returns what a model is called with: a list, or the tokens where there is no context."""
    return inputs[0] if len(inputs) == 1 else inputs


def as_integers(inputs: Any) -> Any:
    """Returns context and prompts, these as int32, as which files and serving may not hold them."""
    *context, prompt = as_list(inputs)
    return as_given([*context, tf.cast(prompt, tf.int32)])
