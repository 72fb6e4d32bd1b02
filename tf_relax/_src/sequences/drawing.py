"""Sequences drawn token by token: at random, the most probable ones, and without replacement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax._src.relaxations.impossible import IMPOSSIBLE, bounded_choices
from tf_relax._src.relaxations.noise import gumbel
from tf_relax._src.sequences.decoder import as_given, read, with_memory


class Sequences(NamedTuple):
    """Sequences that were drawn.

    Attributes:
        tokens: `[batch, max_length]`, int32; after the end 0.
        mask: 1 for every token up to the end, the stop token included, and 0 after it.
    """

    tokens: tf.Tensor
    mask: tf.Tensor

    @property
    def lengths(self) -> tf.Tensor:
        """Number of tokens of each, the stop token included, `[batch]`."""
        return tf.cast(tf.reduce_sum(self.mask, axis=-1), tf.int32)


class Language(NamedTuple):
    """The distribution of sequences: that of the tokens of a decoder, and where they end.

    Attributes:
        model: the decoder.
        max_length: after which a sequence ends.
        stop_token: after which it ends earlier; `None` for sequences of one length.
        temperature: that logits are divided by.
        dtype: of logits and noise.
    """

    model: keras.Model
    max_length: int
    stop_token: int | None
    temperature: float
    dtype: Any

    def tempered(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns logits as they are sampled and scored: divided, bounded, in float32 or better."""
        return bounded_choices(tf.cast(logits, self.dtype) / self.temperature)

    @property
    def decoder(self) -> Any:
        """What has `begin` and `advance`."""
        return with_memory(self.model, self.max_length)

    def begin(self, inputs: Any, sequences_per_prompt: int) -> tuple[tf.Tensor, Any]:
        """Returns the logits of the first token of every sequence."""
        context, prompt = read(self.model, inputs, sequences_per_prompt)
        logits, memory = self.decoder.begin(as_given([*context, prompt]))
        return self.tempered(logits), memory

    def advance(self, token: tf.Tensor, memory: Any) -> tuple[tf.Tensor, Any]:
        """Returns the logits of the next token."""
        logits, memory = self.decoder.advance(token, memory)
        return self.tempered(logits), memory

    def stops(self, token: tf.Tensor) -> tf.Tensor:
        """Returns which tokens end their sequences."""
        if self.stop_token is None:
            return tf.zeros_like(token, tf.bool)
        return token == self.stop_token


def drawn(language: Language, inputs: Any, seed: tf.Tensor | None, count: int = 1) -> Sequences:
    """Draws independent sequences for every prompt, ``y_t = argmax(a_t + G_t)``.

    Args:
        language: to draw from.
        inputs: context and prompts.
        count: of sequences per prompt.
        seed: of the Gumbels, a pair; `None` draws none of them: every token is the most probable.
    """

    def choose(t: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if seed is not None:
            logits += gumbel(tf.shape(logits), logits.dtype, _at(seed, t))
        return tf.argmax(logits, axis=-1, output_type=tf.int32)

    logits, memory = language.begin(inputs, count)
    rows = tf.shape(logits)[0]
    tokens = tf.zeros([rows, language.max_length], tf.int32)
    mask = tf.zeros([rows, language.max_length], logits.dtype)

    def body(
        t: tf.Tensor, logits: Any, memory: Any, ended: Any, tokens: Any, mask: Any
    ) -> tuple[Any, ...]:
        token = tf.where(ended, 0, choose(t, logits))
        tokens = _put(tokens, t, token)
        mask = _put(mask, t, tf.cast(~ended, mask.dtype))
        ended |= language.stops(token)
        logits, memory = language.advance(token, memory)
        return t + 1, logits, memory, ended, tokens, mask

    ended = tf.zeros([rows], tf.bool)
    *_, tokens, mask = _loop(language, body, 3, (0, logits, memory, ended, tokens, mask))
    return Sequences(tokens, mask)


def drawn_without_replacement(
    language: Language, inputs: Any, count: int, seed: tf.Tensor
) -> tuple[Sequences, tf.Tensor]:
    r"""Draws several different sequences for every prompt, by stochastic beam search.

    They have the largest ``log p(y) + G(y)`` of all sequences, ``G`` Gumbel (Kool et al. 2019,
    algorithm 1): those of the beginnings of sequences are maxima of theirs, so that a beam search
    finds them.

    Args:
        language: to draw from.
        inputs: context and prompts.
        count: of sequences per prompt.
        seed: of the Gumbels, a pair.

    Returns:
        The sequences, those of a prompt side by side, `[batch * count, max_length]`; and whether
        each of them exists, `[batch, count]`: there may be fewer.
    """
    logits, memory = language.begin(inputs, count)
    rows = tf.shape(logits)[0]
    beams = tf.stack([rows // count, count])
    dtype, vocabulary = logits.dtype, logits.shape[-1]
    nothing = tf.constant(IMPOSSIBLE, dtype)
    log_p = tf.zeros(beams, dtype)
    # All beams begin alike, so that there is only one.
    g = tf.where(tf.range(count) == 0, tf.zeros(beams, dtype), nothing)

    def body(
        t: tf.Tensor, logits: Any, memory: Any, ended: Any,
        tokens: Any, mask: Any, log_p: Any, g: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        every = tf.concat([beams, [vocabulary]], axis=0)
        log_p_of = log_p[..., tf.newaxis] + tf.reshape(tf.nn.log_softmax(logits), every)
        noise = gumbel(every, dtype, _at(seed, t))
        g_of = _with_maximum(log_p_of + noise, g)
        # A sequence that has ended goes on in one way, without another token.
        goes_on = tf.where(tf.range(vocabulary) == 0, g[..., tf.newaxis], nothing)
        over = tf.reshape(ended, beams)[..., tf.newaxis]
        g_of = tf.where(over, goes_on, g_of)
        log_p_of = tf.where(over, log_p[..., tf.newaxis], log_p_of)
        flat = [beams[0], count * vocabulary]
        g, best = tf.math.top_k(tf.reshape(g_of, flat), count)
        log_p = tf.gather(tf.reshape(log_p_of, flat), best, axis=1, batch_dims=1)
        parent = tf.reshape(best // vocabulary + count * tf.range(beams[0])[:, tf.newaxis], [-1])
        token = tf.reshape(best % vocabulary, [-1])
        ended, tokens, mask, memory = tf.nest.map_structure(
            lambda x: tf.gather(x, parent), (ended, tokens, mask, memory)
        )
        token = tf.where(ended, 0, token)
        tokens = _put(tokens, t, token)
        mask = _put(mask, t, tf.cast(~ended, dtype))
        ended |= language.stops(token)
        logits, memory = language.advance(token, memory)
        return t + 1, logits, memory, ended, tokens, mask, log_p, g

    ended = tf.zeros([rows], tf.bool)
    tokens = tf.zeros([rows, language.max_length], tf.int32)
    mask = tf.zeros([rows, language.max_length], dtype)
    first = (0, logits, memory, ended, tokens, mask, log_p, g)
    *_, tokens, mask, _, g = _loop(language, body, 3, first)
    return Sequences(tokens, mask), g > IMPOSSIBLE / 2


def _with_maximum(g: tf.Tensor, maximum: tf.Tensor) -> tf.Tensor:
    """Returns Gumbels, given that the largest of them is a given one.

    ``-log(exp(-max) - exp(-Z) + exp(-g))``, Z the largest before (Kool et al. 2019, appendix B.3).
    """
    before = tf.reduce_max(g, axis=-1, keepdims=True)
    gap = g - before
    # log(1 - exp(gap)); at the largest, where it is -inf, nothing is taken off.
    largest = gap >= 0
    log_1mexp = tf.math.log(-tf.math.expm1(tf.where(largest, -tf.ones_like(gap), gap)))
    v = maximum[..., tf.newaxis] - g + log_1mexp
    lower = maximum[..., tf.newaxis] - tf.nn.relu(v) - tf.math.log1p(tf.exp(-tf.abs(v)))
    lower = tf.maximum(lower, tf.constant(IMPOSSIBLE, g.dtype))
    return tf.where(largest, maximum[..., tf.newaxis], lower)


def _loop(language: Language, body: Callable[..., Any], ended: int, first: Any) -> Any:
    """Runs the body for every position, until all sequences have ended."""

    def unfinished(t: tf.Tensor, *state: Any) -> tf.Tensor:
        return (t < language.max_length) & ~tf.reduce_all(state[ended - 1])

    return tf.nest.map_structure(
        tf.stop_gradient,
        tf.while_loop(unfinished, body, first, maximum_iterations=language.max_length),
    )


def _put(x: tf.Tensor, t: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.range(x.shape[1]) == t, column[:, tf.newaxis], x)


def _at(seed: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
    # Philox by name, as for all noise: the generator that XLA would choose is slow on a CPU.
    return tf.random.experimental.stateless_fold_in(seed, t, alg="philox")
