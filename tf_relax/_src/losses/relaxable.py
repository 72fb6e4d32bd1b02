"""How much of an objective can be evaluated at samples that are not hard."""

from __future__ import annotations

import enum
from typing import Any

import keras

from tf_relax._src.losses.black_box import BlackBox


class Relaxable(enum.Enum):
    """What of a compiled loss can be evaluated at relaxed samples: all but black boxes.

    Example:

    >>> Relaxable.of(["mse", BlackBox(lambda y_true, y_pred: y_pred[:, 0])])
    <Relaxable.PART: 'part'>
    >>> bool(Relaxable.NOTHING)
    False
    """

    NOTHING = "nothing"
    PART = "part"
    ALL = "all"

    def __bool__(self) -> bool:
        return self is not Relaxable.NOTHING

    @classmethod
    def of(cls, loss: Any) -> Relaxable:
        """Returns what can be relaxed of the losses of a model; `add_loss` alone is all of it."""
        losses = [one for one in keras.tree.flatten(loss) if one is not None]
        black_boxes = [one for one in losses if isinstance(one, BlackBox)]
        if not black_boxes:
            return cls.ALL
        return cls.NOTHING if len(black_boxes) == len(losses) else cls.PART
