"""What cannot be drawn: how logits say so, in numbers that formulas survive."""

from __future__ import annotations

import tensorflow as tf

# So low that it never wins, and finite: differences of logits, and zero times a logit, stay
# numbers. Half of it is still impossible, so that noise on top makes no difference.
IMPOSSIBLE = -1e9


def impossible(x: tf.Tensor) -> tf.Tensor:
    """Returns whether an item cannot be drawn, from its logit or its `z`.

    NaN is not impossible: it has to get through. (So nothing here is the negation of this:
    TensorFlow's graph optimizer makes ``x > y`` of ``not x <= y``.)
    """
    return x <= IMPOSSIBLE / 2


def where_possible(a: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns `x`, and 0 for items that cannot be drawn, by their logits or `z`."""
    return tf.where(impossible(a), tf.zeros_like(x), x)


def only_possible(x: tf.Tensor) -> tf.Tensor:
    """Returns 1 for items that can be drawn and 0 for others, in the type of their logits."""
    return where_possible(x, tf.ones_like(x))


def bounded_choices(a: tf.Tensor) -> tf.Tensor:
    """Returns logits of choices in which all that is impossible, -inf included, is `IMPOSSIBLE`.

    Its derivative there is zero, as is that of the probability of an impossible item.

    Example:

    >>> import tensorflow as tf
    >>> a = tf.constant([0.5, float("-inf"), tf.float32.min])
    >>> bool(tf.reduce_all(bounded_choices(a) == [0.5, IMPOSSIBLE, IMPOSSIBLE]))
    True
    """
    return tf.where(impossible(a), tf.constant(IMPOSSIBLE, a.dtype), a)


def bounded_units(a: tf.Tensor) -> tf.Tensor:
    """Returns logits of binary units in which those that are certain are finite, of either sign.

    Example:

    >>> import tensorflow as tf
    >>> a = tf.constant([0.5, float("-inf"), float("inf")])
    >>> bool(tf.reduce_all(bounded_units(a) == [0.5, IMPOSSIBLE, -IMPOSSIBLE]))
    True
    """
    return -bounded_choices(-bounded_choices(a))
