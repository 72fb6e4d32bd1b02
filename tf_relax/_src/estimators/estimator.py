"""What every gradient estimator answers."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from tf_relax._src.estimators.citations import Cited
from tf_relax._src.estimators.needs import check_needs
from tf_relax._src.estimators.state import State
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.relaxations import Discrete, Draw
from tf_relax._src.sites import Site, Sites
from tf_relax._src.sites.layer import StochasticLayer


class Pass(Protocol):
    """One run of the model on hard samples, and the ways to run parts of it again.

    Attributes:
        sites: the samples of the pass.
        f: objective of every example, `[batch]`, a constant for gradients (`[1]` where batch
            statistics couple the examples: then it is the sum over the batch).
        objective: the same, per example, as a differentiable tensor.
        targets: the step's `y` if it is a single tensor, for surrogates that look at it.
        relaxable: how much of the objective can be evaluated at relaxed samples; a black-box part
            is left out.
    """

    sites: Sites
    objective: tf.Tensor
    relaxable: Relaxable

    @property
    def f(self) -> tf.Tensor: ...

    @property
    def targets(self) -> tf.Tensor | None: ...

    def relaxed(self, level: Sequence[Site], z: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the objective with the sites of `level` at `z`, and all later ones, relaxed."""
        ...

    def at_mean(self, level: Sequence[Site], mean: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the objective with the sites of `level`, and all later ones, at their mean."""
        ...

    def resampled(self, level: Sequence[Site], k: int) -> tf.Tensor:
        """Returns the differentiable objective with the sites of `level` sampled by noise `k`."""
        ...

    def replaced(self, level: Sequence[Site], draws: Sequence[Draw]) -> tf.Tensor:
        """Returns the differentiable objective with other hard samples at the sites of `level`."""
        ...

    def forced(self, outcomes: Sequence[tf.Tensor]) -> Pass:
        """Returns the pass in which every site takes the given hard sample."""
        ...

    def signal(self, per_example: tf.Tensor) -> tf.Tensor:
        """Returns what may multiply a score, as a constant: an example's value, or the batch's."""
        ...

    def derivative(self) -> list[tf.Tensor]:
        """Returns $df/db$ at every site, shaped like `b`."""
        ...


class Passes(list[Pass]):
    """The passes of one step. They share the logits of their first level of sites.

    Attributes:
        objective: what the model minimises, per example and differentiable: the mean over the
            passes, or minus the importance-weighted bound that they form together.
        f: the same as a constant for gradients, `[batch]` (`[1]` where examples are coupled).
    """

    objective: tf.Tensor
    f: tf.Tensor


class Estimate(NamedTuple):
    r"""What an estimator returns.

    Attributes:
        gradients: per pass and per site, the estimate's share of $\nabla_a \mathbb{E}[f_i]$ of
            every example, shaped like the logits; `None`, for all sites or for one, if its samples
            were differentiable and backpropagation does it.
        surrogate_loss: scalar whose gradient trains the states, or `None`.
        updates: variables and the values that they take after the step.
        objectives: what deterministic weights descend, a sum of products: per-example weights,
            constants, and differentiable per-example objectives; `None` is the passes' own.
        passes: the passes that `gradients` belong to; `None` are those that were given.
    """

    gradients: Sequence[Sequence[tf.Tensor | None]] | None
    surrogate_loss: tf.Tensor | None = None
    updates: Sequence[tuple[keras.Variable, tf.Tensor]] = ()
    objectives: Sequence[tuple[tf.Tensor, tf.Tensor]] | None = None
    passes: Passes | None = None


class Estimator(Cited, abc.ABC):
    r"""Strategy that turns recorded passes into gradients for the logits of every site.

    Estimators own no variables: what they learn for a stochastic layer is a state that `build`
    makes and the compiled model holds; at every site of a pass it is `site.state`. They are given
    to `RelaxModel.compile(estimator=...)` by name or as objects.

    Attributes:
        needs: what the distribution of a layer has to offer, classes of `tf_relax.relaxations`.
        unbiased: whether the expectation of the estimate is the gradient of the expectation.
        needs_differentiable_objective: whether a black-box objective is refused.
        needs_deterministic_objective: whether an objective that draws random numbers of its own is
            refused.
        needs_separate_examples: whether batch statistics of samples are refused, as it compares
            samples of an example that the others, changed as well, have not been drawn for.
        relaxes_samples: whether the recorded pass itself runs on relaxed samples.
        works_on_all_layers: whether it cannot serve some of the layers of a model alone.
        importance_weighted: whether the estimator works with the importance-weighted objective,
            in which one value depends on the samples of all passes.
        num_passes: independent passes per step.
        num_noises: noise tensors per site; by default one per pass.
        num_z_tildes: samples of $z \mid b$ per site.
        reason: why `Auto` has chosen it, if it has.
        papers: names of the papers that it comes from, or their BibTeX, which `citation()` returns.
    """

    needs: tuple[type, ...] = (Discrete,)
    unbiased: bool = True
    needs_differentiable_objective: bool = False
    needs_deterministic_objective: bool = False
    needs_separate_examples: bool = False
    relaxes_samples: bool = False
    works_on_all_layers: bool = False
    importance_weighted: bool = False
    num_passes: int = 1
    num_noises: int = 1
    num_z_tildes: int = 0
    reason: str | None = None

    def part(self, layer: StochasticLayer) -> Estimator:
        """Returns the estimator that serves a layer."""
        return self

    def check_layers(self, layers: Sequence[StochasticLayer]) -> None:
        """Raises a ValueError unless these are the layers that the estimator is for."""

    def check(self, layer: StochasticLayer) -> None:
        """Raises a ValueError that names both if the estimator is not defined for a layer."""
        check_needs(self, layer)

    def check_objective(self, importance_samples: int | None) -> None:
        """Raises a ValueError if the estimator does not work with the model's objective.

        Args:
            importance_samples: samples of the importance-weighted objective, `None` for the ELBO
                or any other mean over samples.
        """
        if importance_samples is None:
            return
        if not isinstance(importance_samples, int) or importance_samples < 1:
            raise ValueError(
                "`importance_samples` must be at least 1 (a whole number). Received: "
                f"{importance_samples}"
            )
        if not self.importance_weighted:
            raise ValueError(
                f"{self} estimates the gradient of a mean over samples, and importance_samples="
                f"{importance_samples} asks for the logarithm of one. Use 'vimco' or 'reinforce', "
                "or one of the pathwise estimators."
            )

    def couple(
        self, layer: StochasticLayer, noises: list[tf.Tensor], logits: tf.Tensor
    ) -> list[tf.Tensor]:
        """Maps independent noise tensors of a site to those that its samples are made of."""
        return noises

    def couple_conditional(
        self, layer: StochasticLayer, noises: list[tf.Tensor]
    ) -> list[tf.Tensor]:
        r"""Does what `couple` does for the samples of $z \mid b$ of one pass."""
        return noises

    def output(self, site: Site) -> tf.Tensor:
        """Returns what the layer gives to the rest of the model: by default the hard sample."""
        return tf.stop_gradient(site.layer.as_output(site.draw))

    def build(self, layer: StochasticLayer, relaxable: Relaxable) -> keras.Layer:
        """Returns what is learned for a stochastic layer, as a Keras layer: by default nothing.

        `surrogate_loss` trains its trainable variables. All of them exist once the compiled model
        has called `build(None)` on it.

        Args:
            layer: the stochastic layer, built: it has a `name`, a `relaxation`, a `noise_dtype` and
                `shapes`.
            relaxable: how much of the objective can be evaluated at relaxed samples of it; true if
                any part can.

        Raises:
            ValueError: if the estimator cannot work with that.
        """
        return State(layer)

    @abc.abstractmethod
    def estimate(self, passes: Passes) -> Estimate:
        """Estimates the gradient at every site of every pass."""

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Estimator:
        """Returns the estimator with these constructor arguments."""
        return cls(**config)

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        arguments = {
            name: getattr(self, name, value)
            for name, value in self.get_config().items()
            if name not in defaults or defaults[name].default != value
        }
        shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        return f"{type(self).__name__}({shown})"


def sampled(site: Site) -> tuple[Any, tf.Tensor, Draw]:
    """Returns relaxation, logits and draw of a site, with which all `rules` begin."""
    return site.layer.relaxation, site.logits, site.draw


def score(site: Site) -> tf.Tensor:
    """Returns ``d log p(b | a) / da`` at a site."""
    return site.layer.relaxation.score(site.logits, site.draw)
