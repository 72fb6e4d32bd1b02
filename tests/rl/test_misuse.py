"""What users do wrong, the error, and what it says. Warnings are errors here."""

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import SyncVectorEnv

from tests.rl.envs import Counter, trainer
from tf_relax import rl


def make(**arguments):
    return trainer("CartPole-v1", arguments.pop("estimator", "a2c"), **arguments)


def during_training(change, **arguments):
    """Runs `change` on a trainer between updates, as a callback does."""
    made = make(**{"n_steps": 4, **arguments})
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: change(made))
    made.fit(12, callbacks=[callback], seed=0, verbose=0)


def setting(name, value, of=None, **arguments):
    def change(made):
        setattr(made if of is None else getattr(made, of), name, value)

    return lambda: during_training(change, **{k: x() for k, x in arguments.items()})


def same_environment():
    env = Counter()
    return trainer(lambda: env, policy_env=Counter(), n_envs=2)


def same_environment_in_a_vector():
    env = gymnasium.make("CartPole-v1")
    return trainer(SyncVectorEnv([lambda: env] * 3), policy_env="CartPole-v1")


def torso(head=1):
    observations = keras.Input((4,))
    features = keras.layers.Dense(4)(observations)
    policy = keras.Model(observations, keras.layers.Dense(2)(features), name="actor")
    return policy, keras.Model(observations, keras.layers.Dense(head)(features), name="judge")


def natural_gradient_of_a_shared_torso():
    policy, judge = torso()
    rl.PolicyGradient(policy, "CartPole-v1", value=judge, trust_region=rl.NaturalGradient())


def surrogate_that_shares():
    policy, _ = torso()
    action, state = keras.Input((2,)), keras.Input((4,))
    joined = keras.layers.Concatenate()([action, policy.layers[1](state)])
    surrogate = keras.Model([action, state], keras.layers.Dense(1)(joined))
    rl.PolicyGradient(policy, "CartPole-v1", "relax", surrogate=surrogate)


def frozen_policy():
    policy = rl.dense_policy("CartPole-v1", units=(4,))
    policy.trainable = False
    rl.PolicyGradient(policy, "CartPole-v1")


def far_box():
    made = trainer(Counter((20,), action_space=Box(5, 35, (2,))), n_steps=16, action_bounds=None)
    made.fit(16, seed=0, verbose=0)


class Undeclared(Counter):
    """Says that it observes numbers up to a half."""

    def __init__(self):
        super().__init__()
        self.observation_space = Box(-0.5, 0.5, (2,), np.float32)


def outside_of_its_space():
    trainer(Undeclared(), n_steps=4).fit(4, seed=0, verbose=0)


def no_action_left():
    nothing = keras.layers.Lambda(lambda x: x - np.inf)
    policy = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), nothing])
    made = rl.PolicyGradient(policy, "CartPole-v1", "reinforce")
    made.compile(jit_compile=False)
    made.fit(1, seed=0, verbose=0)


def ended_processes():
    vector = gymnasium.vector.AsyncVectorEnv([Counter] * 2)
    made = trainer(vector, policy_env=Counter(), n_steps=4)
    for process in vector.processes:
        process.terminate()
        process.join()
    made.fit(8, verbose=0)


ROWS = {
    "no environments": (lambda: make(n_envs=0), ValueError, "`n_envs` must be .* 1. Received: 0"),
    "less than none": (lambda: make(n_envs=-1), ValueError, "`n_envs` must be .* Received: -1"),
    "half of one": (lambda: make(n_envs=1.5), ValueError, "`n_envs` must be a whole number"),
    "yes": (lambda: make(n_envs=True), ValueError, "`n_envs` must be a whole number .*True"),
    "half a step": (lambda: make(n_steps=4.5), ValueError, "`n_steps` must be a whole number"),
    "half an episode": (lambda: make(n_episodes=1.5), ValueError, "`n_episodes` must be a whole"),
    "one object": (same_environment, ValueError, "Counter is the same object .* 2 places.*a new"),
    "one object in a vector": (
        same_environment_in_a_vector,
        ValueError,
        "'CartPole-v1' is the same object in several of the 3 places",
    ),
    "no trainable variables": (frozen_policy, ValueError, "no trainable variables"),
    "natural gradient, shared torso": (
        natural_gradient_of_a_shared_torso,
        ValueError,
        "'judge' shares layers with the policy 'actor'.*KLPenalty, Clip",
    ),
    "surrogate that shares": (surrogate_that_shares, ValueError, "surrogate shares layers with"),
    "bounds out of reach": (
        far_box,
        UserWarning,
        r"All 16 actions .* clipped to the same bound .*component 0, 1.*action_bounds='clip'",
    ),
    "outside of its space": (
        outside_of_its_space,
        ValueError,
        r"Undeclared begins outside .* in the reset of episode 1: component \[0\] is 1, .* to 0.5",
    ),
    "no action left": (no_action_left, FloatingPointError, "ruled out every action, in a state of"),
    "ended processes": (
        ended_processes,
        RuntimeError,
        "AsyncVectorEnv runs in processes that have ended.*Give PolicyGradient a function that",
    ),
    "gamma in a callback": (
        setting("gamma", 1.5),
        ValueError,
        "`gamma` must lie between 0 and 1. Received: gamma=1.5",
    ),
    "no gamma": (setting("gamma", None), ValueError, "`gamma` must lie .*gamma=None"),
    "lambda in a callback": (setting("gae_lambda", -0.1), ValueError, "`gae_lambda` must lie"),
    "entropy weight": (
        setting("entropy_weight", np.nan),
        ValueError,
        "`entropy_weight` must be a finite number. Received: entropy_weight=nan",
    ),
    "entropy weight, named": (
        setting("entropy_weight", "high"),
        ValueError,
        "`entropy_weight` must be a finite number. Received: entropy_weight='high'",
    ),
    "value steps": (
        setting("value_steps", 1.5),
        ValueError,
        "`value_steps` must be a whole number of at least 1",
    ),
    "epsilon": (
        setting("epsilon", 0.0, of="trust_region", trust_region=rl.Clip),
        ValueError,
        "Clip: `epsilon` must be a finite number above 0. Received: epsilon=0.0",
    ),
    "minibatches": (
        setting("minibatches", 2, of="trust_region", trust_region=rl.Clip),
        AttributeError,
        "`minibatches` of Clip cannot be changed once it is made.*Make another Clip",
    ),
    "iterations": (
        setting("iterations", 2, of="trust_region", trust_region=rl.NaturalGradient),
        AttributeError,
        "`iterations` of NaturalGradient cannot be changed",
    ),
    "another estimator": (
        setting("estimator", "reinforce"),
        AttributeError,
        "`estimator` of PolicyGradient cannot be changed once it is made.*'reinforce'",
    ),
    "another trust region": (
        setting("trust_region", None, trust_region=rl.Clip),
        AttributeError,
        "`trust_region` of PolicyGradient cannot be changed",
    ),
    "more environments": (setting("n_envs", 2), AttributeError, "`n_envs` of PolicyGradient"),
    "normalisation": (
        setting("normalize_rewards", True),
        AttributeError,
        "`normalize_rewards` of PolicyGradient cannot be changed",
    ),
    "no steps in a callback": (
        setting("n_steps", 0),
        ValueError,
        "`n_steps` must be at least 1. Received: 0",
    ),
    "from steps to episodes": (
        lambda: during_training(lambda made: vars(made).update(n_steps=None, n_episodes=1)),
        ValueError,
        "cannot go over to `n_steps`, nor one of steps to `n_episodes`.*Make another",
    ),
    "bootstrap in a callback": (
        setting("bootstrap", "never"),
        ValueError,
        "`bootstrap` must be 'truncation' or None. Received: 'never'",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_what_users_do_wrong(row):
    what, error, message = ROWS[row]
    with pytest.raises(error, match=message):
        what()
