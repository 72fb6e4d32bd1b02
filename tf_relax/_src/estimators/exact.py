"""The gradient itself, by enumeration of all samples."""

from __future__ import annotations

import itertools
import math
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.citations import noted
from tf_relax._src.estimators.estimator import (
    Estimate,
    Estimator,
    Pass,
    Passes,
    sampled,
)
from tf_relax._src.relaxations import Items, KnownMean
from tf_relax._src.relaxations.capabilities import num_outcomes
from tf_relax._src.relaxations.event import sum_event


@keras.saving.register_keras_serializable(package="tf_relax")
class Exact(Estimator):
    r"""Enumeration of all outcomes: no noise at all.

    $$g = \sum_b p(b \mid a) (f(b) - \mathbb{E} f) \nabla_a \log p(b \mid a)$$

    One evaluation of the objective per joint outcome of all layers, so for small models only. The
    decoder's gradient is exact as well. The objective must not be random itself (dropout).

    Args:
        max_outcomes: the largest number of joint outcomes to enumerate.

    Raises:
        ValueError: (from the step) if there are more, if a layer has infinitely many, if the
            objective is random, or if batch statistics of samples couple the examples.

    Example:

    >>> Exact().unbiased
    True
    """

    papers = ("williams1992",)
    needs_deterministic_objective = True
    needs_separate_examples = True
    works_on_all_layers = True

    def __init__(self, max_outcomes: int = 64):
        if max_outcomes < 1:
            raise ValueError(f"Exact: `max_outcomes` must be at least 1. Received: {max_outcomes}")
        self.max_outcomes = max_outcomes

    def estimate(self, passes: Passes) -> Estimate:
        (one,) = passes
        p, forced = [], []
        for outcomes in itertools.product(*self._outcomes(one)):
            forced.append(one.forced(outcomes))
            log_prob = [
                sum_event(site.layer.relaxation.log_prob(site.logits, site.draw))
                for site in forced[-1].sites
            ]
            p.append(tf.stop_gradient(tf.exp(tf.add_n(log_prob))))
        # Logits that leave fewer choices than a sample has show here.
        whole = tf.abs(tf.add_n(p) - 1) < 1e-3
        p = [tf.where(whole, p_b, tf.constant(float("nan"), p_b.dtype)) for p_b in p]
        f_mean = tf.add_n([p_b * other.f for p_b, other in zip(p, forced, strict=True)])
        gradients = [
            [rules.score_function(*sampled(site), p_b * (other.f - f_mean)) for site in other.sites]
            for p_b, other in zip(p, forced, strict=True)
        ]
        objectives = [(p_b, other.objective) for p_b, other in zip(p, forced, strict=True)]
        return Estimate(gradients, objectives=objectives, passes=Passes(forced))

    def _outcomes(self, one: Pass) -> list[tuple[tf.Tensor, ...]]:
        """Returns all outcomes of every site."""
        counts = []
        for site in one.sites:
            event = site.logits.shape[1:]
            count = None
            if event.is_fully_defined():
                count = num_outcomes(site.layer.relaxation, event)
            if count is None:
                raise ValueError(
                    f"Exact cannot enumerate {type(site.layer).__name__} '{site.name}', whose "
                    f"logits have the event shape {event}: use a discrete layer, with logits of "
                    "fixed size, and permutations, subsets and trees one at a time."
                )
            relaxation = site.layer.relaxation
            is_one_choice = isinstance(relaxation, KnownMean)
            if site.mask is not None and isinstance(relaxation, Items) and not is_one_choice:
                raise ValueError(
                    f"Exact enumerates samples with one number of choices, and the mask of "
                    f"{type(site.layer).__name__} '{site.name}' may leave examples with fewer. "
                    "Use 'relax'."
                )
            counts.append(count)
        total = math.prod(counts)
        if total > self.max_outcomes:
            sites = ", ".join(
                f"{count:,} of '{site.name}'" if count < 1e9 else f"{count:.3g} of '{site.name}'"
                for site, count in zip(one.sites, counts, strict=True)
            )
            raise ValueError(
                f"Exact would have to enumerate {total:.4g} joint outcomes ({sites}), and "
                f"max_outcomes={self.max_outcomes}. Use 'relax', or raise `max_outcomes`: every "
                "outcome is one evaluation of the model."
            )
        return [site.layer.relaxation.outcomes(site.logits.shape[1:]) for site in one.sites]

    def cited(self) -> dict[str, str]:
        return noted(super().cited(), "Here summed over all outcomes instead of sampled")

    def get_config(self) -> dict[str, Any]:
        return {"max_outcomes": self.max_outcomes}
