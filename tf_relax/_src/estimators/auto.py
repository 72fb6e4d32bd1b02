"""The choice of an estimator, by what a model draws and what it minimises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras

from tf_relax._src.estimators.arms import Arms
from tf_relax._src.estimators.control_variate import Relax
from tf_relax._src.estimators.estimator import Estimate, Estimator, Passes
from tf_relax._src.estimators.exact import Exact
from tf_relax._src.estimators.lax import Lax
from tf_relax._src.estimators.leave_one_out import LeaveOneOut
from tf_relax._src.estimators.pathwise import Reparameterization
from tf_relax._src.estimators.per_layer import PerLayer
from tf_relax._src.estimators.rejection import RejectionReparameterization
from tf_relax._src.estimators.score_function import Reinforce
from tf_relax._src.estimators.unordered_set import UnorderedSet
from tf_relax._src.estimators.vimco import Vimco
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.relaxations import (
    BinaryUnits,
    Categorical,
    Continuous,
    PlackettLuce,
    Relaxed,
    Sticks,
)
from tf_relax._src.sites.layer import StochasticLayer

FEW_OUTCOMES = 8  # whose enumeration costs about twice what two relaxed samples do


class Facts(NamedTuple):
    """What the choice of an estimator depends on.

    Attributes:
        layers: the stochastic layers of a model.
        relaxable: how much of its objective can be evaluated at relaxed samples.
        importance_samples: of the objective, or `None` for a mean over samples.
        num_outcomes: of all layers together; `None` where they are not known.
        deterministic: whether nothing but these layers draws random numbers.
        separate_examples: whether no batch statistics make examples depend on each other.
    """

    layers: Sequence[StochasticLayer]
    relaxable: Relaxable
    importance_samples: int | None
    num_outcomes: int | None
    deterministic: bool
    separate_examples: bool


class Rule(NamedTuple):
    """An estimator, and when it is chosen: where it is defined, and the first that is.

    Attributes:
        estimator: the candidate.
        reason: why it is the choice where it is.
        wanted: what has to hold for a layer besides.
    """

    estimator: Estimator
    reason: str
    wanted: Callable[[StochasticLayer, Facts], bool] = lambda layer, facts: True


def _few(layer: StochasticLayer, facts: Facts) -> bool:
    return facts.num_outcomes is not None and facts.num_outcomes <= FEW_OUTCOMES


def _alone_or_mean(layer: StochasticLayer, facts: Facts) -> bool:
    # Estimators of the importance-weighted bound serve all layers.
    continuous = all(isinstance(each.relaxation, Continuous) for each in facts.layers)
    return continuous or facts.importance_samples is None


def _relaxable(layer: StochasticLayer, facts: Facts) -> bool:
    # With the samples of a layer all that are drawn after them are relaxed.
    layers = all(each.relaxable and isinstance(each.relaxation, Relaxed) for each in facts.layers)
    close = isinstance(layer.relaxation, (BinaryUnits, Categorical, Sticks, PlackettLuce))
    return layers and close and facts.relaxable is not Relaxable.NOTHING


def _all_relaxable(layer: StochasticLayer, facts: Facts) -> bool:
    return facts.relaxable is Relaxable.ALL and _relaxable(layer, facts)


def _bits_alone(layer: StochasticLayer, facts: Facts) -> bool:
    bits = isinstance(layer.relaxation, BinaryUnits)
    return bits and len(facts.layers) == 1 and _all_relaxable(layer, facts)


def _one_choice(layer: StochasticLayer, facts: Facts) -> bool:
    return len(layer.shapes.logits) == 2


# In the order of preference. Candidates of an audit are all that are defined.
RULES = (
    Rule(Exact(FEW_OUTCOMES), "it has few outcomes, which can be enumerated", _few),
    Rule(Reparameterization(), "its samples and the objective have derivatives", _alone_or_mean),
    Rule(RejectionReparameterization(), "what it accepts and the objective have derivatives"),
    Rule(Vimco(), "the objective is an importance-weighted bound"),
    Rule(UnorderedSet(num_samples=4), "it makes one choice per example", _one_choice),
    Rule(
        # Relaxed samples are quieter for some twenty thousand steps, and end lower.
        Arms(num_samples=4),
        "it draws bits, which train best with several hard samples",
        _bits_alone,
    ),
    Rule(
        # Most of the noise of bits is that of z given b, which costs relaxed evaluations alone.
        Relax(
            surrogate="objective",
            num_conditional=3,
            coupling="antithetic",
            learn_temperature=False,
        ),
        "it draws bits, and the objective follows their relaxed samples closely",
        _bits_alone,
    ),
    Rule(
        Relax(surrogate="objective", num_samples=2, coupling="antithetic"),
        "the objective has a derivative, and follows its relaxed samples closely",
        _all_relaxable,
    ),
    Rule(
        Relax(num_samples=2, coupling="antithetic"),
        "a part of the objective has a derivative, and follows its relaxed samples closely",
        _relaxable,
    ),
    Rule(
        Lax(surrogate="network", num_samples=2, coupling="antithetic"),
        "its samples have derivatives, the objective has none",
    ),
    Rule(Arms(num_samples=4), "it draws bits, and the objective has no derivative in them"),
    Rule(LeaveOneOut(num_samples=4), "nothing but their probability is known of its samples"),
    Rule(Reinforce(), "the bound of one importance sample has no other"),
)


@keras.saving.register_keras_serializable(package="tf_relax")
class Auto(Estimator):
    """Chooses an estimator by what a model draws and what it minimises; `compile`'s default.

    Of these the first that is defined for a layer, all unbiased, most of them of four evaluations
    of the objective: `Exact` for at most 8 outcomes, `Reparameterization` or
    `RejectionReparameterization` for continuous samples, `Vimco` for the importance-weighted bound,
    `UnorderedSet` for one choice per example; `Arms` for a layer of bits; for several of them, for
    categories and for permutations by Gumbel races `Relax` with two antithetic samples, the
    surrogate being the objective where that has a derivative, and a network beside it where only a
    part has; for black boxes `Lax`, or `Arms` for bits; for all else `LeaveOneOut`. Layers of
    different kinds get one each.

    The compiled model shows the choice, and files keep it: `model.estimator` and
    `model.estimator.reason`. It is made as soon as the model is built, and logged by the logger
    `tf_relax`. What to cite is what was chosen, `model.estimator.citation()`.

    Example:

    >>> import keras, tf_relax
    >>> layers = [keras.layers.Dense(4), tf_relax.layers.RelaxBernoulli()]
    >>> model = tf_relax.RelaxModel([keras.Input((8,)), *layers])
    >>> model.compile("adam", loss="mse")  # estimator="auto"
    >>> model.estimator.reason
    'it draws bits, which train best with several hard samples'
    """

    needs = ()
    works_on_all_layers = True
    importance_weighted = True

    def chosen_for(self, facts: Facts) -> Estimator:
        """Returns the estimator of a model, with the `reason` for it.

        Args:
            facts: of the model, all of whose stochastic layers are built.

        Raises:
            ValueError: for a model without stochastic layers.
        """
        if not facts.layers:
            raise ValueError("There is no stochastic layer to choose an estimator for.")
        rules = [rule for rule in RULES if _suits_all(rule, facts)]
        if rules and rules[0].estimator.works_on_all_layers:
            return _with_reason(rules[0].estimator, rules[0].reason)
        for num_samples in (4, 2):  # layers of several samples have to agree in their number
            best = [_best(layer, facts, num_samples) for layer in facts.layers]
            if len({repr(rule.estimator) for rule in best}) == 1:
                return _with_reason(best[0].estimator, best[0].reason)
            by_layer = dict(zip([layer.name for layer in facts.layers], best, strict=True))
            if len(by_layer) < len(best):
                continue  # names that are not unique
            try:
                together = PerLayer({name: rule.estimator for name, rule in by_layer.items()})
            except ValueError:
                continue
            reasons = [f"'{name}': {rule.reason}" for name, rule in by_layer.items()]
            return _with_reason(together, "; ".join(reasons))
        return _with_reason(LeaveOneOut(4), "no others serve all layers together")

    def cited(self) -> dict[str, str]:
        raise ValueError(
            "Auto chooses an estimator when a model is built, and comes from no paper itself. Ask "
            "its choice: model.estimator.citation()."
        )

    def estimate(self, passes: Passes) -> Estimate:
        raise RuntimeError("Auto chooses an estimator, and is none itself.")


def candidates(facts: Facts) -> list[Estimator]:
    """Returns the estimators among which `Auto` chooses, those that serve all layers of a model."""
    return [rule.estimator for rule in RULES if _suits_all(rule, facts)]


def _best(layer: StochasticLayer, facts: Facts, num_samples: int) -> Rule:
    rule = next(
        rule
        for rule in RULES
        if not rule.estimator.works_on_all_layers and _suits(rule, layer, facts)
    )
    if isinstance(rule.estimator, LeaveOneOut):
        return rule._replace(estimator=LeaveOneOut(num_samples))
    return rule


def _suits_all(rule: Rule, facts: Facts) -> bool:
    return all(_suits(rule, layer, facts) for layer in facts.layers)


def _suits(rule: Rule, layer: StochasticLayer, facts: Facts) -> bool:
    estimator = rule.estimator
    differentiable = layer.relaxable and facts.relaxable is Relaxable.ALL
    try:
        estimator.check(layer)
        estimator.check_objective(facts.importance_samples)
    except ValueError:
        return False
    return (
        (differentiable or not estimator.needs_differentiable_objective)
        and (facts.deterministic or not estimator.needs_deterministic_objective)
        and (facts.separate_examples or not estimator.needs_separate_examples)
        and rule.wanted(layer, facts)
    )


def _with_reason(estimator: Estimator, reason: str) -> Estimator:
    own = type(estimator).from_config(estimator.get_config())  # rules are nobody's to change
    own.reason = reason
    return own
