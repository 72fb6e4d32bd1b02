"""The part of a model that holds its estimator, and what that has learned."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

from tf_relax._src import estimators
from tf_relax._src.compat import sublayers
from tf_relax._src.estimators import Auto, Estimator
from tf_relax._src.layers import Stochastic
from tf_relax._src.losses import BlackBox
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.training.choice import choose
from tf_relax._src.training.estimation import Estimation, check_objective
from tf_relax._src.training.estimator_state import EstimatorState


class Estimated(keras.Model):
    """The part of a `RelaxModel` that holds its estimator."""

    importance_samples: int | None
    batch_coupled: bool | None

    @property
    def stochastic_layers(self) -> list[Stochastic]:
        """All stochastic layers of the model, however deeply nested."""
        return [layer for layer in sublayers(self) if isinstance(layer, Stochastic)]

    @property
    def _estimation(self) -> Estimation | None:
        at_work: Estimation | None = self.__dict__.get("_compiled_estimation")
        if at_work is not None and isinstance(at_work.estimator, Auto):
            chosen = self._choose(at_work.estimator)
            if chosen is not at_work.estimator:  # the model has been built since
                at_work = Estimation(chosen, EstimatorState(), at_work.relaxable)
                self._estimate_with(at_work)
        return at_work

    def _choose(self, estimator: Estimator) -> Estimator:
        return choose(self, estimator, self.loss, self.importance_samples, self.batch_coupled)

    def _estimate_with(self, estimation: Estimation | None) -> None:
        # Keras would track an attribute, and count what estimators learn among the weights.
        self.__dict__["_compiled_estimation"] = estimation

    @property
    def estimator(self) -> Estimator | None:
        """The gradient estimator of a compiled model."""
        return None if self._estimation is None else self._estimation.estimator

    @property
    def relaxable(self) -> Relaxable | None:
        """How much of the compiled objective can be evaluated at relaxed samples."""
        return None if self._estimation is None else self._estimation.relaxable

    @property
    def estimator_state(self) -> EstimatorState | None:
        """What the estimator of a compiled model has learned: `model.estimator_state["code"]`.

        Like the optimizer, it is no part of the weights, and saved with them.
        """
        if self._estimation is None:
            return None
        at_work = self._estimation
        at_work.state.build_for(self.stochastic_layers, at_work.estimator, at_work.relaxable)
        return at_work.state

    @contextlib.contextmanager
    def using(
        self, estimator: str | Estimator, state: EstimatorState | None = None
    ) -> Iterator[Estimated]:
        """Replaces the estimator of a compiled model inside a `with` block.

        Args:
            estimator: gradient estimator, by name or as an object of `tf_relax.estimators`.
            state: what it has learned, `model.estimator_state` of an earlier block. `None` takes
                what the compiled model has learned with the same estimator, or starts anew.

        Raises:
            ValueError: for an unknown estimator, and for losses that it cannot work with.

        Example:

        >>> import keras, tf_relax
        >>> layers = [keras.layers.Dense(4), tf_relax.layers.RelaxBernoulli()]
        >>> model = tf_relax.RelaxModel([keras.Input((8,)), *layers])
        >>> model.compile("adam", loss="mse", estimator="relax")
        >>> with model.using("disarm"):
        ...     model.estimator
        Disarm()
        """
        losses = [loss for loss in keras.tree.flatten(self.loss) if isinstance(loss, BlackBox)]
        compiled = self._estimation
        if compiled is None:
            raise ValueError(f"RelaxModel '{self.name}' is not compiled: call `compile` first.")
        chosen = self._choose(estimators.get(estimator))
        check_objective(chosen, self.importance_samples, losses)
        if state is None:
            same = compiled.is_for(chosen, compiled.relaxable)
            state = compiled.state if same else EstimatorState()
        self._estimate_with(Estimation(chosen, state, compiled.relaxable))
        try:
            yield self
        finally:
            self._estimate_with(compiled)
