"""What cannot work is said before anything runs, or with the episode and step where it fails."""

import re

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Text, Tuple
from gymnasium.vector import SyncVectorEnv

from tests.rl.envs import MODES, Counter, side_by_side, trainer
from tf_relax import rl, surrogates

POLICY = rl.dense_policy("CartPole-v1", units=(4,))


def value():
    return rl.dense_value((4,), units=(4,))


class Odd(Counter):
    def __init__(self, actions=None, observations=None):
        super().__init__(action_space=actions)
        self.observation_space = observations or self.observation_space


@pytest.mark.parametrize(
    "space",
    [
        Discrete(1),
        Tuple([Discrete(2), Discrete(2)]),
        MultiDiscrete([[2, 2], [2, 2]]),
        Box(-1, 1, (2, 2)),
        Box(0, 9, (2,), np.int32),
        Text(4),
    ],
    ids=str,
)
def test_action_spaces_that_are_not_supported(space):
    with pytest.raises(ValueError, match=r"(?s)environment Odd has the action space.*Supp"):
        rl.PolicyGradient(POLICY, Odd(actions=space))


@pytest.mark.parametrize("space", [Discrete(4), Dict(x=Box(-1, 1, (2,)))], ids=str)
def test_observation_spaces_that_are_not_supported(space):
    with pytest.raises(ValueError, match=r"environment Odd has the observation space.*Flatten"):
        rl.PolicyGradient(POLICY, Odd(observations=space))


ARGUMENTS = {
    "both": ({"n_steps": 4, "n_episodes": 1, "estimator": "a2c"}, "Exactly one of `n_episodes`"),
    "neither": ({"n_episodes": None}, "Exactly one of `n_episodes`"),
    "allotment": ({"n_episodes": 3, "n_envs": 2}, r"n_episodes=3 cannot be allotted to 2"),
    "no episodes": ({"n_episodes": 0}, r"n_episodes=0 cannot"),
    "no steps": ({"n_steps": 0, "estimator": "a2c"}, "`n_steps` must be at least 1"),
    "steps without value": ({"n_steps": 4}, r"n_steps=4 cuts episodes.*pass `value`"),
    "relax steps without value": (
        {"n_steps": 4, "estimator": "relax"},
        r"n_steps=4 cuts episodes.*estimator='relax'",
    ),
    "lambda without value": ({"gae_lambda": 0.9}, r"gae_lambda=0.9 puts a value function"),
    "lambda": ({"gae_lambda": 1.1, "estimator": "a2c"}, r"`gae_lambda` must lie between 0 and 1"),
    "gamma": ({"gamma": 1.5}, "`gamma` must lie between 0 and 1"),
    "bootstrap": ({"bootstrap": "always"}, "`bootstrap` must be 'truncation' or None"),
    "lax": (
        {"estimator": "lax"},
        r"'lax' is not for discrete actions.*'CartPole-v1'.*estimator='relax'",
    ),
    "value": ({"value": value}, r"estimator='reinforce' has no use for a value"),
    "surrogate": (
        {"surrogate": surrogates.Network},
        r"estimator='reinforce' has no use for a surrogate.*'relax'",
    ),
    "surrogate of a2c": (
        {"surrogate": surrogates.Network, "estimator": "a2c"},
        r"estimator='a2c' has no use for a surrogate",
    ),
    "targets": (
        {
            "surrogate": lambda: surrogates.Network(looks_at=("targets",), targets_shape=(2,)),
            "estimator": "relax",
        },
        r"looks at the objective or at targets.*environment offers neither",
    ),
    "objective": (
        {"surrogate": surrogates.Objective, "estimator": "relax"},
        r"looks at the objective or at targets",
    ),
    "clip": (
        {"trust_region": rl.Clip, "estimator": "relax"},
        r"Clip reweights.*estimator='relax' has a pathwise part",
    ),
    "estimator": ({"estimator": "rebar"}, r"Unknown estimator 'rebar'.*a2c.*relax"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_that_contradict_each_other(case):
    arguments, message = ARGUMENTS[case]
    made = {name: x() if callable(x) else x for name, x in arguments.items()}
    with pytest.raises(ValueError, match=message):
        rl.PolicyGradient(POLICY, "CartPole-v1", **{"estimator": "reinforce", **made})


def test_relax_is_for_discrete_actions():
    policy = rl.dense_policy("Pendulum-v1")
    with pytest.raises(ValueError, match=r"'relax' is not for continuous actions.*'Pendulum-v1'"):
        rl.PolicyGradient(policy, "Pendulum-v1", estimator="relax")


@pytest.mark.parametrize(
    ("policy", "returned"),
    [
        (rl.dense_value((4,)), r"\('batch', 1\)"),
        (keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="mine"), r"'batch', 3"),
        (
            keras.Sequential([keras.Input((4,)), keras.layers.Reshape((2, 2))]),
            r"\('batch', 2, 2\)",
        ),
    ],
    ids=["too small", "too large", "axes"],
)
def test_a_policy_that_does_not_fit(policy, returned):
    pattern = rf"{policy.name}' returns .*{returned}.*'CartPole-v1'.*2 logits: end with Dense\(2\)"
    with pytest.raises(ValueError, match=pattern):
        rl.PolicyGradient(policy, "CartPole-v1")


def test_a_policy_without_scales():
    policy = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"1 means and 1 logarithms.*NormalParameters\(1\)"):
        rl.PolicyGradient(policy, "Pendulum-v1")


def test_a_value_that_does_not_fit():
    with pytest.raises(ValueError, match="one number per observation"):
        rl.PolicyGradient(POLICY, "CartPole-v1", value=POLICY)


def test_environments_of_another_kind():
    with pytest.raises(TypeError, match=r"`env` must be the id .* Received: 3"):
        rl.PolicyGradient(POLICY, 3)
    with pytest.raises(gymnasium.error.NameNotFound):
        rl.PolicyGradient(POLICY, "CardPole-v1")
    with pytest.raises(ValueError, match=r"n_envs=2 needs as many environments"):
        rl.PolicyGradient(POLICY, gymnasium.make("CartPole-v1"), n_envs=2)
    three = gymnasium.make_vec("CartPole-v1", 3, "sync")
    with pytest.raises(ValueError, match=r"n_envs=2, and the vector environment has 3"):
        rl.PolicyGradient(POLICY, three, n_envs=2)


def test_fit_and_evaluate():
    made = rl.PolicyGradient(POLICY, "CartPole-v1")
    with pytest.raises(RuntimeError, match="not compiled: call `compile` before `fit`"):
        made.fit(10)
    made.compile(jit_compile=False)
    with pytest.raises(ValueError, match=r"`total_timesteps` must be at least 1. Received: 0"):
        made.fit(0)
    with pytest.raises(ValueError, match=r"`n_episodes` must be at least 1. Received: 0"):
        made.evaluate(0)


FAULTS = {
    "raises": (ZeroDivisionError("no"), RuntimeError, r"raised ZeroDivisionError in .*: no"),
    "nan observation": ("nan observation", FloatingPointError, "an observation that is not finite"),
    "nan reward": ("nan reward", FloatingPointError, r"a reward \(nan\) that is not finite"),
}


@pytest.mark.parametrize("amount", [{"n_episodes": 1}, {"n_steps": 6}], ids=str)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_environment_that_fails_in_an_episode(fault, amount):
    what, error, message = FAULTS[fault]
    made = trainer(Counter(faults={(2, 3): what}), **amount)
    with pytest.raises(error, match=message) as raised:
        made.fit(100, seed=0, verbose=0)
    assert "environment Counter" in str(raised.value)
    assert "in step 3 of episode 2" in str(raised.value)
    frames = made.frames  # of the updates before
    assert frames == (4 if "n_episodes" in amount else 5)  # one row of six was a reset
    made.fit(10, verbose=0)  # which it survives
    assert made.frames > frames


@pytest.mark.parametrize("fault", ["raises", "nan observation"])
@pytest.mark.parametrize("mode", MODES)
def test_an_environment_that_fails_in_a_reset(mode, fault):
    what, error, message = FAULTS[fault]
    faulty = Counter(faults={(3, 0): what})
    env = side_by_side([Counter, lambda: faulty], mode)
    made = trainer(env, policy_env=Counter(), n_steps=20)
    with pytest.raises(error, match=message) as raised:
        made.fit(100, seed=0, verbose=0)
    # Where it resets itself in the step that ends an episode, that step is all there is to name.
    where = "step 4 of episode 2" if mode == "SameStep" else "the reset of episode 3"
    assert f"{where} of environment 1" in str(raised.value)


@pytest.mark.parametrize("mode", MODES)
def test_a_last_observation_that_is_not_finite(mode):
    faulty = Counter(faults={(2, 4): "nan observation"})
    env = side_by_side([Counter, lambda: faulty], mode)
    made = trainer(env, policy_env=Counter(), n_steps=20)
    message = re.escape("not finite in step 4 of episode 2 of environment 1")
    with pytest.raises(FloatingPointError, match=message):
        made.fit(100, seed=0, verbose=0)


def test_of_many_environments_a_few_are_named():
    faulty = Counter(faults={(1, 2): ZeroDivisionError()})
    env = SyncVectorEnv([lambda: faulty] + [Counter] * 5)
    with pytest.raises(RuntimeError, match=r"environment 3 or later ones: $"):
        trainer(env, policy_env=Counter(), n_steps=4).fit(10, verbose=0)


def test_a_policy_that_diverges_is_named():
    made = trainer(Counter())
    made.optimizer.learning_rate = np.nan
    with pytest.raises(FloatingPointError, match=r"update 1 left the policy .*`clipnorm`"):
        made.fit(10, verbose=0)


@pytest.mark.parametrize("amount", [{"n_episodes": 1}, {"n_steps": 6}], ids=str)
def test_ctrl_c_keeps_what_was_learnt(amount):
    env = Counter(faults={(4, 2): KeyboardInterrupt()})
    made = trainer(env, **amount)
    with pytest.raises(KeyboardInterrupt):
        made.fit(1000, seed=0, verbose=0)
    frames, episodes = (12, 3) if "n_episodes" in amount else (10, 2)
    assert (made.frames, len(made.episode_returns)) == (frames, episodes)
    assert made.history.history["frames"][-1] == frames
    weights = made.get_weights()
    history = made.fit(4, verbose=0)
    assert history.history["frames"][0] == frames + (4 if "n_episodes" in amount else 5)
    # The rollout that was interrupted counts nowhere, with the episodes in it.
    assert history.history["episodes"][0] == episodes + 1
    assert set(made.episode_lengths) == {4}
    assert any(not np.array_equal(x, y) for x, y in zip(weights, made.get_weights(), strict=True))


# What the user does, the error, and what it says. Warnings are errors here.


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
    made = trainer(Counter((20,), action_space=Box(5, 35, (2,))), n_steps=16)
    made.fit(16, seed=0, verbose=0)


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
        r"All 16 actions .* clipped to the same bound .*component 0, 1.*RescaleAction",
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
