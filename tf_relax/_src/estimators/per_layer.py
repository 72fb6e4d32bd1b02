"""Different estimators for the layers of one model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.estimators.citations import together
from tf_relax._src.estimators.estimator import Estimate, Estimator, Pass, Passes
from tf_relax._src.sites import Site, Sites
from tf_relax._src.sites.layer import StochasticLayer


@keras.saving.register_keras_serializable(package="tf_relax")
class PerLayer(Estimator):
    r"""An estimator for every stochastic layer; `compile(estimator={...})` makes one of a mapping.

    Each estimates $\nabla_a \mathbb{E}[f]$ of its own layers, with all other samples as they were
    drawn: for them they are a part of the objective like any other randomness. Unbiased where all
    are.

    Args:
        estimators: objects of `tf_relax.estimators`, by the names of the layers.

    Raises:
        ValueError: for no estimator at all, for those that work on all layers together (`Exact`,
            `Vimco`, `Concrete`), and for several that need different numbers of passes.

    Example:

    >>> import tf_relax
    >>> from tf_relax.estimators import LeaveOneOut, PerLayer, Relax
    >>> PerLayer({"code": Relax(surrogate="network"), "attention": LeaveOneOut()}).num_passes
    2
    """

    def __init__(self, estimators: Mapping[str, Estimator]):
        if not estimators:
            raise ValueError("PerLayer: an estimator is needed for every stochastic layer.")
        self.estimators = dict(estimators)
        parts = list(self.estimators.values())
        for name, part in self.estimators.items():
            if part.works_on_all_layers:
                raise ValueError(
                    f"{part} works on all layers of a model together, and cannot be combined with "
                    f"others, as it is for the layer '{name}'. Use it for the whole model, or "
                    "another one, such as 'relax' or 'leave_one_out', for this layer."
                )
        several = [part for part in parts if part.num_passes > 1]
        for part in parts:
            fixed = part.num_passes > 1 or part.num_noises > 1  # pairs of samples of its own
            if several and fixed and part.num_passes != several[0].num_passes:
                raise ValueError(
                    f"{several[0]} and {part} draw their samples in different ways, "
                    f"{several[0].num_passes} independent passes and {part.num_passes}, and cannot "
                    "be combined. Choose one of them for both layers, or two that take the same "
                    "`num_samples`."
                )
        self.unbiased = all(part.unbiased for part in parts)
        self.needs_differentiable_objective = any(
            part.needs_differentiable_objective for part in parts
        )
        self.num_passes = max(part.num_passes for part in parts)
        self.num_noises = max(part.num_noises for part in parts)

    def part(self, layer: StochasticLayer) -> Estimator:
        return self.estimators[layer.name]

    def check_layers(self, layers: Sequence[StochasticLayer]) -> None:
        names = {layer.name for layer in layers}
        unknown = sorted(self.estimators.keys() - names)
        missing = sorted(names - self.estimators.keys())
        if unknown or missing:
            problem = f"has no stochastic layers {unknown}" if unknown else f"leaves out {missing}"
            raise ValueError(
                f"The mapping of estimators {problem}. It needs the names of the stochastic layers "
                f"of the model, each once: {sorted(names)}."
            )

    def estimate(self, passes: Passes) -> Estimate:
        gradients: list[dict[Site, tf.Tensor | None]] = [{} for _ in passes]
        losses: list[tf.Tensor] = []
        updates: dict[int, tuple[keras.Variable, list[tf.Tensor]]] = {}
        for part in dict.fromkeys(self.estimators.values()):
            names = {name for name, each in self.estimators.items() if each is part}
            own = [OwnSites(one, names) for one in passes]
            groups = [own] if part.num_passes == len(own) else [[one] for one in own]
            for group in groups:
                # A single pass of several counts for its share of their mean.
                share = len(group) / len(own)
                estimate = part.estimate(_as_passes(group, passes))
                if estimate.surrogate_loss is not None:
                    losses.append(share * estimate.surrogate_loss)
                for variable, value in estimate.updates:
                    updates.setdefault(id(variable), (variable, []))[1].append(value)
                if estimate.gradients is None:
                    continue  # its samples are differentiable
                for one, shares in zip(group, estimate.gradients, strict=True):
                    for site, g in zip(one.sites, shares, strict=True):
                        gradients[own.index(one)][site] = None if g is None else share * g
        return Estimate(
            [
                [of_pass.get(site) for site in one.sites]
                for of_pass, one in zip(gradients, passes, strict=True)
            ],
            surrogate_loss=tf.add_n(losses) if losses else None,
            updates=[(v, tf.add_n(values) / len(values)) for v, values in updates.values()],
        )

    def cited(self) -> dict[str, str]:
        return together(*self.estimators.values())

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {"estimators": {name: serialize(part) for name, part in self.estimators.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PerLayer:
        deserialize = keras.saving.deserialize_keras_object
        return cls({name: deserialize(part) for name, part in config["estimators"].items()})


class OwnSites:
    """A pass as the estimator of some of its layers sees it: with their sites alone.

    Args:
        one: the pass.
        names: of the layers.
    """

    def __init__(self, one: Pass, names: Collection[str]):
        self._one = one
        self.sites = Sites(site for site in one.sites if site.layer.name in names)
        self.sites.batch_coupled = one.sites.batch_coupled
        levels = [[s for s in level if s in self.sites] for level in one.sites.levels()]
        self.sites.set_levels([level for level in levels if level])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._one, name)

    def derivative(self) -> list[tf.Tensor]:
        """Returns ``df/db`` at every one of these sites."""
        pairs = zip(self._one.sites, self._one.derivative(), strict=True)
        return [derivative for site, derivative in pairs if site in self.sites]


def _as_passes(group: Sequence[Pass], passes: Passes) -> Passes:
    """Returns some of the passes, or all, as those that an estimator is given."""
    own = Passes(group)
    alone = len(group) < len(passes)
    own.objective = group[0].objective if alone else passes.objective
    own.f = group[0].f if alone else passes.f
    return own
