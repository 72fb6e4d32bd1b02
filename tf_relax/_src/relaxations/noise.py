"""Noise: uniform in the open interval (0, 1), and Gumbel."""

from __future__ import annotations

import zlib
from typing import Any

import tensorflow as tf


def open_uniform(shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
    """Draws uniforms that are never 0 or 1 and symmetric around 1/2.

    Args:
        shape: shape of the result.
        dtype: `float32` or `float64`.
        seed: a `keras.random.SeedGenerator`, which moves on, or an integer.

    Returns:
        Uniforms, such that both ``log u`` and ``log(1 - u)`` are finite.

    Example:

    >>> u = open_uniform((1000,), "float32", seed=0)
    >>> bool(tf.reduce_all((u > 0) & (u < 1)))
    True
    """
    dtype = tf.as_dtype(dtype)
    pair = seed_pair(seed)
    # Philox by name: the generator that XLA picks by itself takes 30 times as long on a CPU, and
    # draws other numbers than a graph does.
    u = tf.random.stateless_uniform(shape, pair, dtype=dtype, alg="philox")
    # TensorFlow's uniforms are multiples of 2^-23 (2^-52 in float64) in [0, 1). Half a step more
    # makes them symmetric and keeps both ends out.
    return u + (2.0**-53 if dtype == tf.float64 else 2.0**-24)


def gumbel(shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
    """Draws standard Gumbels ``G``; ``exp(-G)`` is exponential with rate 1.

    Args:
        shape: shape of the result.
        dtype: `float32` or `float64`.
        seed: a `keras.random.SeedGenerator`, which moves on, or an integer.

    Returns:
        Finite Gumbels.

    Example:

    >>> gumbel((2, 3), "float32", seed=0).shape
    TensorShape([2, 3])
    """
    return -tf.math.log(-tf.math.log(open_uniform(shape, dtype, seed)))


def stream(pair: tf.Tensor, position: int) -> tf.Tensor:
    """Returns the seed of one of many streams that share a seed.

    Layers that were given the same seed draw from different streams, and none of them from that of
    a Keras layer with this seed (dropout): equal noise in two places of a model would be a model in
    which they are the same random variable.

    Args:
        pair: seed of a stateless op.
        position: of the call within the model.
    """
    key = zlib.crc32(f"tf_relax {position}".encode())
    key -= (key >> 31) << 32  # as a signed number
    return tf.bitwise.bitwise_xor(tf.cast(pair, tf.int32), tf.constant([key, 0], tf.int32))


def of_replica(pair: tf.Tensor) -> tf.Tensor:
    """Returns the seed of this replica of a `tf.distribute` strategy.

    All replicas have the same seeds, and would draw copies of one sample.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return pair
    seed = tf.cast(pair, tf.int32)
    seed = tf.random.experimental.stateless_fold_in(seed, context.replica_id_in_sync_group)
    return tf.cast(seed, pair.dtype)


def seed_pair(seed: Any) -> tf.Tensor:
    """Returns the seed of a stateless op: a generator, which moves on, an integer or a pair."""
    if hasattr(seed, "next"):
        return tf.cast(seed.next(), tf.int32)
    return seed if tf.is_tensor(seed) else tf.constant([seed, 0])
