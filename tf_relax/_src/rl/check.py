"""What cannot work together, said before anything runs."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.rl.trainer import Trainer
from tf_relax._src.rl.world.recurrence import state_shapes
from tf_relax._src.rl.world.rollout import Rollout


def arguments(trainer: Trainer) -> None:
    """Raises a ValueError for arguments of a trainer that contradict each other."""
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync > 1:
        raise ValueError(
            f"Policies do not train on several replicas, and {type(strategy).__name__} has "
            f"{strategy.num_replicas_in_sync}: make the trainer outside of its scope. What takes "
            "the time are the environments: pass n_envs=..., or a gymnasium.vector.AsyncVectorEnv, "
            "whose environments run in processes of their own."
        )
    name, estimator = trainer.environments.name, trainer.estimator
    kind = estimator.name
    space = trainer.action_space
    if estimator.discrete is not None and estimator.discrete != space.discrete:
        actions, other = ("discrete", "relax") if space.discrete else ("continuous", "lax")
        raise ValueError(
            f"estimator='{kind}' is not for {actions} actions, which the environment {name} has "
            f"({space.space}). Use estimator='{other}', or 'a2c'."
        )
    if trainer.value is not None and not estimator.takes_value:
        raise ValueError(f"estimator='{kind}' has no use for a value: leave it out, or use 'a2c'.")
    if trainer.surrogate is not None and not estimator.uses_critic:
        other = "relax" if space.discrete else "lax"
        raise ValueError(
            f"estimator='{kind}' has no use for a surrogate: leave it out, or use '{other}'."
        )
    if trainer.n_episodes == "auto":
        trainer.n_episodes = None if trainer.n_steps is not None else trainer.environments.n_envs
    amounts(trainer)
    region = trainer.trust_region
    if region is not None and region.needs_ratio and estimator.uses_critic:
        raise ValueError(
            f"{type(region).__name__} reweights log-probabilities, and estimator='{kind}' has a "
            "pathwise part that no ratio reweights. Use KLPenalty or NaturalGradient, or "
            "estimator='a2c'."
        )

    if trainer.reuse is not None and (estimator.uses_critic or trainer.value is None):
        raise ValueError(
            f"VTrace reweights log-probabilities and corrects a value, and estimator='{kind}' has "
            + ("a pathwise part that no ratio reweights." if estimator.uses_critic else "no value.")
            + " Use estimator='a2c', or leave `reuse` out."
        )


def amounts(trainer: Trainer) -> None:
    """Raises a ValueError for what a rollout cannot be made from; callbacks may have changed it."""
    kind = trainer.estimator.name
    has_value = trainer.value is not None or trainer.estimator.uses_value
    episodes, steps = trainer.n_episodes, trainer.n_steps
    for name, amount in (("n_episodes", episodes), ("n_steps", steps)):
        if amount is not None and not isinstance(amount, (int, np.integer)):
            raise ValueError(f"`{name}` must be a whole number. Received: {amount!r}")
    if (episodes is None) == (steps is None):
        raise ValueError(
            "Exactly one of `n_episodes` and `n_steps` says how much an update is made from. "
            f"Received: n_episodes={episodes}, n_steps={steps}"
        )
    if trainer.whole_episodes is not None and trainer.whole_episodes != (steps is None):
        raise ValueError(
            "A trainer of whole episodes cannot go over to `n_steps`, nor one of steps to "
            "`n_episodes`: they have different objectives. Make another trainer. Received: "
            f"n_episodes={episodes}, n_steps={steps}"
        )
    count = trainer.environments.n_envs
    if episodes is not None and (episodes < 1 or episodes % count):
        raise ValueError(
            f"n_episodes={episodes} cannot be allotted to {count} environments: it must be a "
            "multiple of their number. (Taking whichever episodes end first would favour short "
            "ones.)"
        )
    if steps is not None and steps < 1:
        raise ValueError(f"`n_steps` must be at least 1. Received: {steps}")
    lam = trainer.gae_lambda
    if steps is not None and not has_value:
        raise ValueError(
            f"n_steps={steps} cuts episodes, and only a value function knows what follows: pass "
            f"`value`, or use n_episodes with estimator='{kind}'."
        )
    if lam is not None and lam < 1 and not has_value:
        raise ValueError(
            f"gae_lambda={lam} puts a value function in the place of rewards, and there is none: "
            "pass `value`, or leave `gae_lambda` out."
        )
    if trainer.bootstrap not in ("truncation", None):
        raise ValueError(
            f"`bootstrap` must be 'truncation' or None. Received: {trainer.bootstrap!r}"
        )


def networks(trainer: Trainer) -> None:
    """Raises a ValueError for networks that cannot learn, or not together."""
    policy, value, region = trainer.policy, trainer.value, trainer.trust_region
    if not policy.trainable_variables:
        raise ValueError(
            f"The policy '{policy.name}' has no trainable variables: there is nothing to learn."
        )
    moves_alone = region is not None and not region.shares
    if value is not None and moves_alone and trainer.shared_variables:
        raise ValueError(
            f"The value '{value.name}' shares layers with the policy '{policy.name}', and "
            f"{type(region).__name__} moves the policy alone. Give the value layers of its own, "
            "or use KLPenalty, Clip, or no trust region."
        )
    if trainer.critic is None:
        return
    others = [*policy.variables, *(value.variables if value is not None else ())]
    if common(trainer.critic.variables, others):
        raise ValueError(
            "The surrogate shares layers with the policy or the value. It learns from the squared "
            "gradient, which says nothing about theirs: give it layers of its own."
        )


def common(one: Any, other: Any) -> list[Any]:
    """Returns the variables of one list that another has, too."""
    known = {id(variable) for variable in other}
    return [variable for variable in one if id(variable) in known]


def outputs(trainer: Trainer, observation_shape: tuple[int, ...]) -> None:
    """Raises a ValueError if what policy or value return is not what it has to be."""
    policy_output(trainer, _first_output(trainer.policy, observation_shape))
    if trainer.value is not None:
        value_output(trainer.value, _first_output(trainer.value, observation_shape))
    models = [trainer.policy, trainer.value]
    recurrent = [model for model in models if model is not None and state_shapes(model)]
    region, estimator = trainer.trust_region, trainer.estimator
    # A value of its own layers is fitted in the order of the steps anyway.
    shuffled = recurrent and (recurrent[0] is trainer.policy or trainer.shared_variables)
    if shuffled and region is not None and region.needs_ratio:
        raise ValueError(
            f"{type(region).__name__} shuffles steps, and the recurrent model "
            f"'{recurrent[0].name}' has to be unrolled in their order. Use KLPenalty, "
            "NaturalGradient, or no trust region."
        )
    if recurrent and estimator.off_policy is not None:
        raise ValueError(
            "OffPolicy remembers single steps, without what the recurrent model "
            f"'{recurrent[0].name}' had seen before them. Leave `off_policy` out."
        )


def _first_output(model: keras.Model, observation_shape: tuple[int, ...]) -> Any:
    """Returns a model's output, but for the states of a recurrent one, which have to fit."""
    observations, shapes = tf.zeros((1, *observation_shape)), state_shapes(model)
    if not shapes:
        return model(observations, training=False)
    memory = [tf.zeros((1, *shape)) for shape in shapes]
    returned = model([observations, *memory], training=False)
    found = [tuple(x.shape[1:]) for x in returned[1:]] if isinstance(returned, list) else []
    if found != shapes:
        raise ValueError(
            f"The model '{model.name}' has {len(shapes) + 1} inputs: a recurrent one maps "
            "[observations, *states] to [output, *states], states of the same shapes. Its states "
            f"go in with shapes {shapes} and come out with {found}. Observations of several parts "
            "are flattened to one array."
        )
    return returned[0]


def policy_output(trainer: Trainer, logits: tf.Tensor) -> None:
    """Raises a ValueError if the policy's output does not parameterise the actions."""
    space, name = trainer.action_space, trainer.environments.name
    shape = tuple(getattr(logits, "shape", ()))
    if shape != (1, space.logits_size):
        shown = ("batch", *shape[1:]) if len(shape) else type(logits).__name__
        raise ValueError(
            f"The policy '{trainer.policy.name}' returns {shown} for the environment {name}, whose "
            f"action space {space.space} needs {space.describe_output()}."
        )


def value_output(model: keras.Model, value: tf.Tensor) -> None:
    """Raises a ValueError if the value is not one number per observation."""
    if tuple(value.shape) not in ((1,), (1, 1)):
        raise ValueError(
            f"The value '{model.name}' has to return one number per observation: end with "
            f"Dense(1). It returned shape {('batch', *tuple(value.shape)[1:])}."
        )


def bounds(trainer: Trainer, raw: Rollout) -> None:
    """Warns of an action space that the policy does not reach, when training begins."""
    actions = raw.actions[raw.mask > 0]
    if len(actions) < 8:  # which can happen by chance
        return
    clipped = np.flatnonzero(trainer.action_space.always_clipped(actions))
    if len(clipped):
        warnings.warn(
            f"All {len(actions)} actions of the first update were clipped to the same bound of "
            f"{trainer.action_space.space} in component {', '.join(map(str, clipped))}, so that "
            f"the environment {trainer.environments.name} cannot tell one from another. A policy's "
            "actions are of the size of its means and deviations, at first 0 and 1: leave "
            "action_bounds='clip', which scales them to the bounds, or let the policy start within "
            "the bounds.",
            stacklevel=3,
        )


def finite(trainer: Trainer, logs: dict[str, float]) -> None:
    """Raises a FloatingPointError if an update met, or made, outputs that are not finite."""
    number = trainer.updates + 1
    if not np.isfinite(logs["entropy"]):
        raise FloatingPointError(
            f"The policy '{trainer.policy.name}' returned outputs that are not finite, or ruled "
            f"out every action, in a state of update {number}. Its weights are no longer finite "
            "either: go on from a saved trainer, with a policy that is finite in all states and "
            "leaves an action in each."
        )
    if not np.isfinite(logs["kl"]):
        raise FloatingPointError(
            f"'{trainer.name}': update {number} left the policy with outputs that are not finite. "
            "Lower the learning rate, or give the optimizer a `clipnorm`."
        )
