"""Discrete units, which the rest of the model sees in one of several forms."""

from __future__ import annotations

from typing import Any

from tf_relax._src.layers.prior import WithPrior


class Discrete(WithPrior):
    """Base of the layers of discrete samples.

    Args:
        output: what the rest of the model sees, one of `outputs`.
        **kwargs: arguments of `WithPrior`.
    """

    # The values of `output` that a subclass knows; "index" is the one that cannot be relaxed.
    outputs: tuple[str, ...] = ()

    def __init__(self, output: str | None = None, **kwargs: Any):
        if output is not None and output not in self.outputs:
            raise ValueError(
                f"{type(self).__name__}: `output` must be one of {self.outputs}. "
                f"Received: {output!r}"
            )
        self.relaxable = output != "index"
        super().__init__(**kwargs)
        self.output_kind = output

    def get_config(self) -> dict[str, Any]:
        output = {"output": self.output_kind} if self.outputs else {}
        return {**super().get_config(), **output}
