"""Spaces, arguments and networks that do not fit are refused before anything runs."""

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Sequence, Text, Tuple

from tests.rl.envs import Counter
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


def test_observation_spaces_that_are_not_supported():
    space = Sequence(Discrete(4))
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
