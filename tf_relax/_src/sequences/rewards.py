"""Rewards of finished sequences, computed by a Python function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.sequences.drawing import Sequences


class Finished(NamedTuple):
    """Finished sequences, as a reward function sees them: NumPy arrays.

    Attributes:
        tokens: `[batch, max_length]`; 0 after the end.
        lengths: number of tokens of each, the stop token included, `[batch]`.
        x: what the model was given for each: the prompt, or a list of context and prompt.
        y: its target, if `fit` was given any.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    x: Any
    y: Any


Reward = Callable[[Finished], np.ndarray]


def rewarded(
    name: str, reward: Reward, sequences: Sequences, x: Any, y: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Calls the reward function on finished sequences.

    Args:
        name: of the model, for errors.
        reward: the function.
        sequences: of every prompt one or several.
        x: their prompts.
        y: their targets, or `None`.

    Returns:
        The reward at the end, `[batch]`, and those of single tokens, `[batch, tokens]`.
    """
    dtype = sequences.mask.dtype
    given = [x] if y is None else [x, y]
    flat = keras.tree.flatten(given)

    def call(tokens: np.ndarray, lengths: np.ndarray, *arrays: np.ndarray) -> Any:
        packed = keras.tree.pack_sequence_as(given, list(arrays))
        finished = Finished(tokens, lengths, packed[0], packed[1] if y is not None else None)
        return checked(name, np.asarray(reward(finished)), finished, dtype.as_numpy_dtype)

    at_end, of_tokens = tf.numpy_function(
        call, [sequences.tokens, sequences.lengths, *flat], [dtype, dtype]
    )
    return (
        tf.ensure_shape(at_end, sequences.tokens.shape[:1]),
        tf.ensure_shape(of_tokens, sequences.tokens.shape),
    )


def checked(
    name: str, rewards: np.ndarray, finished: Finished, dtype: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Returns rewards of the end and of tokens, from whichever a function has returned.

    Raises:
        ValueError: for other shapes.
        FloatingPointError: for rewards that are no finite numbers.
    """
    shape = finished.tokens.shape
    if rewards.shape not in (shape[:1], shape):
        raise ValueError(
            f"SequenceModel '{name}': the reward function returned shape {rewards.shape} for "
            f"{shape[0]} sequences of at most {shape[1]} tokens. It has to return one reward per "
            f"sequence, shape {shape[:1]}, or one per token, shape {shape}."
        )
    rewards = rewards.astype(dtype)
    if rewards.ndim == 2:  # whatever stands after the end is not part of the sequence
        after = np.arange(shape[1]) >= finished.lengths[:, np.newaxis]
        rewards = np.where(after, dtype(0), rewards)
    if not np.isfinite(rewards).all():
        first = np.argwhere(~np.isfinite(rewards))[0]
        at = f" at token {first[1]}" if rewards.ndim == 2 else ""
        tokens = finished.tokens[first[0], : finished.lengths[first[0]]].tolist()
        raise FloatingPointError(
            f"SequenceModel '{name}': the reward of sequence {first[0]}{at} is "
            f"{rewards[tuple(first)]}. Its tokens are {tokens}."
        )
    if rewards.ndim == 2:
        return np.zeros(shape[:1], dtype), rewards
    return rewards, np.zeros(shape, dtype)
