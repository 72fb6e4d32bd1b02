"""What may be set while training runs, though an update is compiled once; and what may not."""

from __future__ import annotations

import math
import numbers
from typing import Any

import tensorflow as tf


class Schedulable:
    """A number that callbacks may set: the next update sees it, without being compiled anew.

    Read as usual it is a Python number. Read inside of a compiled function it is a variable, so
    that it is no constant there.

    Args:
        low: the least that it may be.
        high: the most.
        above: whether it has to exceed `low`.
        whole: whether it has to be a whole number.
        none: what `None` stands for; without it, `None` is refused.

    Raises:
        ValueError: (when it is set) for a number outside; the message names it.

    Example:

    >>> import tensorflow as tf
    >>> class Example:
    ...     weight = Schedulable(low=0.0)
    >>> example = Example()
    >>> example.weight = 2.0
    >>> times = tf.function(lambda x: example.weight * x)
    >>> float(times(tf.constant(3.0)))
    6.0
    >>> example.weight = 5.0
    >>> float(times(tf.constant(3.0)))
    15.0
    """

    def __init__(
        self,
        low: float = 0.0,
        high: float = float("inf"),
        above: bool = False,
        whole: bool = False,
        none: float | None = None,
    ):
        self.low, self.high, self.above, self.whole, self.none = low, high, above, whole, none

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self._place = f"_schedulable_{name}"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        try:
            number, variable = instance.__dict__[self._place]
        except KeyError:
            raise AttributeError(f"`{self.name}` is not set yet") from None
        return number if tf.executing_eagerly() else variable.read_value()

    def __set__(self, instance: Any, value: Any) -> None:
        number = self._checked(instance, value)
        # Integers as int64: accelerators keep smaller ones on the host, where XLA finds none.
        dtype = tf.int64 if self.whole else tf.float32
        stored = self.none if number is None else number
        if self._place in instance.__dict__:
            variable = instance.__dict__[self._place][1]
            variable.assign(stored)
        else:
            with tf.init_scope():
                variable = tf.Variable(stored, trainable=False, dtype=dtype, name=self.name)
        # Past Keras, which would take it for a weight.
        instance.__dict__[self._place] = (number, variable)

    def _checked(self, instance: Any, value: Any) -> Any:
        if value is None and self.none is not None:
            return None
        kind: Any = numbers.Integral if self.whole else numbers.Real
        if hasattr(value, "numpy"):
            value = value.numpy()
        if hasattr(value, "item") and value.size == 1:  # of NumPy
            value = value.item()
        if isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value):
            enough = self.low < value if self.above else self.low <= value
            if enough and value <= self.high:
                return int(value) if self.whole else float(value)
        if math.isfinite(self.high):
            rule = f"lie between {self.low:g} and {self.high:g}"
        else:
            least = f"{'above' if self.above else 'of at least'} {self.low:g}"
            rule = f"be a {'whole' if self.whole else 'finite'} number"
            rule += f" {least}" if math.isfinite(self.low) else ""
        raise ValueError(
            f"{type(instance).__name__}: `{self.name}` must {rule}. Received: {self.name}={value!r}"
        )


class Fixed:
    """What an update was built around: set once, when its owner is made.

    Raises:
        AttributeError: when it is set again, to something else.

    Example:

    >>> class Example:
    ...     kind = Fixed()
    >>> example = Example()
    >>> example.kind = "a2c"
    >>> example.kind = "relax"
    Traceback (most recent call last):
    AttributeError: `kind` of Example cannot be changed once it is made, as what is compiled \
depends on it. Received: 'relax' instead of 'a2c'. Make another Example.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        try:
            return instance.__dict__[self.name]
        except KeyError:
            raise AttributeError(f"`{self.name}` is not set yet") from None

    def __set__(self, instance: Any, value: Any) -> None:
        before = instance.__dict__.setdefault(self.name, value)
        if value is before or (isinstance(value, (bool, int, float)) and value == before):
            return
        kind = type(instance).__name__
        raise AttributeError(
            f"`{self.name}` of {kind} cannot be changed once it is made, as what is compiled "
            f"depends on it. Received: {value!r} instead of {before!r}. Make another {kind}."
        )
