"""What sequences are refused for, and what to do about it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.numbers import is_finite_number


def arguments(name: str, max_length: Any, stop_token: Any, temperature: Any) -> None:
    """Raises a ValueError for numbers outside their range."""
    if not isinstance(max_length, int) or max_length < 1:
        raise ValueError(
            f"SequenceModel '{name}' needs a maximal length: `max_length`, a whole number of at "
            "least 1. Without a stop token no sequence would end, and with one none has to. "
            f"Received: {max_length!r}"
        )
    if stop_token is not None and (not isinstance(stop_token, int) or stop_token < 0):
        raise ValueError(
            f"SequenceModel '{name}': `stop_token` is the number of a token, or None. Received: "
            f"{stop_token!r}"
        )
    if not is_finite_number(temperature) or temperature <= 0:
        raise ValueError(
            f"SequenceModel '{name}': `temperature` must be finite and above 0. Received: "
            f"{temperature!r}"
        )


def shapes_of(input_shape: Any) -> list[tuple[int | None, ...]]:
    """Returns the shapes of the tensors of a context and, last, of the prompts."""
    if input_shape and not isinstance(input_shape[0], (list, tuple)):
        return [tuple(input_shape)]
    return [tuple(shape) for shape in input_shape]


def logits(name: str, model: keras.Model, tokens: Any, shape: Any, stop_token: int | None) -> None:
    """Raises a ValueError unless these are the logits of the token after every token."""
    if len(shape) != 3 or shape[1] != tokens[1] or shape[2] is None or shape[2] < 2:
        raise ValueError(
            f"SequenceModel '{name}': for tokens of shape {tuple(tokens)} '{model.name}' returned "
            f"shape {tuple(shape)}. It has to return the logits of the token after every token, "
            "[batch, tokens, vocabulary], of a vocabulary of at least 2. (For an RNN: "
            "return_sequences=True.)"
        )
    if stop_token is not None and stop_token >= shape[2]:
        raise ValueError(
            f"SequenceModel '{name}': stop_token={stop_token} is not in the vocabulary, of which "
            f"'{model.name}' has logits of {shape[2]} tokens, 0 to {shape[2] - 1}."
        )


def prompts(name: str, tokens: tf.Tensor) -> None:
    """Raises a ValueError unless prompts hold at least one token."""
    if tokens.shape.rank not in (2, 3) or tokens.shape[-1] == 0:
        raise ValueError(
            f"SequenceModel '{name}': prompts have shape [batch, tokens], with at least one token: "
            "that which begins sequences, where there is no other. (Or [batch, sequences, tokens], "
            f"one for every sequence that is drawn.) Received: {tokens.shape}"
        )


def count(name: str, tokens: tf.Tensor, asked_for: int, without_replacement: bool) -> None:
    """Raises a ValueError if there are prompts for another number of sequences."""
    if tokens.shape.rank == 3 and (tokens.shape[1] != asked_for or without_replacement):
        how = " without replacement, of one prompt" if without_replacement else ""
        raise ValueError(
            f"SequenceModel '{name}': prompts of shape {tokens.shape} are for {tokens.shape[1]} "
            f"sequences of every example, and {asked_for} are to be drawn{how}."
        )


def tokens(name: str, tokens: tf.Tensor, vocabulary: int) -> None:
    """Raises a ValueError for tokens outside the vocabulary, where it can be seen."""
    if tf.executing_eagerly() and tokens.shape[0]:
        outside = np.argwhere((tokens.numpy() < 0) | (tokens.numpy() >= vocabulary))
        if len(outside):
            row, *_, column = outside[0]
            raise ValueError(
                f"SequenceModel '{name}': token {column} of prompt {row} is "
                f"{int(tokens[tuple(outside[0])])}, and the vocabulary of the decoder has the "
                f"tokens 0 to {vocabulary - 1}."
            )


def trainable(model: Any, sample_weight: Any) -> None:
    """Raises a ValueError for a model without a reward, and for weights of examples."""
    if model.reward is None:
        raise ValueError(
            f"SequenceModel '{model.name}' has no reward to train on: compile(..., reward=...), a "
            "function of tf_relax.sequences.Finished."
        )
    if sample_weight is not None:
        raise ValueError(
            f"SequenceModel '{model.name}' takes no sample weights. Weigh rewards in the reward "
            "function, which is given `y`."
        )


def all_exist(name: str, exists: np.ndarray, count: int) -> None:
    """Raises a ValueError if a prompt has fewer sequences than were asked for."""
    if not exists.all():
        row = int(np.argmin(exists.all(axis=1)))
        raise ValueError(
            f"SequenceModel '{name}': prompt {row} has {int(exists[row].sum())} sequences, and "
            f"num_samples={count} different ones were asked for."
        )
