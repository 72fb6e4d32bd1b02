"""Environments whose every observation and reward is known beforehand, and small trainers."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import SyncVectorEnv

import tf_relax

# How a vector environment goes on after the end of an episode; Gymnasium 1.0 knew no choice.
MODES = ["NextStep"]
if hasattr(gymnasium.vector, "AutoresetMode"):
    MODES = [mode.value for mode in gymnasium.vector.AutoresetMode]


class Counter(gymnasium.Env):
    """Observes `[episode, step]`; the reward is the step's number. Actions change nothing.

    Episodes have the given lengths, one after the other and round again.

    Args:
        lengths: of the episodes.
        truncates: whether a time limit ends them.
        action_space: what it takes; it insists on it, and remembers all actions.
        faults: what to do in the step (0 is the reset) of an episode, both counted from 1, instead
            of going on; each happens once.
    """

    def __init__(self, lengths=(4,), truncates=False, action_space=None, faults=None):
        self.lengths, self.truncates = lengths, truncates
        self.action_space = Discrete(2) if action_space is None else action_space
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.faults = dict(faults or {})
        self.episode = 0
        self.received = []

    def _observe(self):
        fault = self.faults.pop((self.episode, self.step_number), None)
        if isinstance(fault, BaseException):
            raise fault
        observation = np.array([self.episode, self.step_number], np.float32)
        if fault == "nan observation":
            observation[1] = np.nan
        self.reward = np.nan if fault == "nan reward" else float(self.step_number)
        return observation

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.step_number = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.received.append(np.array(action))
        self.step_number += 1
        observation = self._observe()
        length = self.lengths[(self.episode - 1) % len(self.lengths)]
        over = self.step_number >= length
        return observation, self.reward, over and not self.truncates, over and self.truncates, {}


class Picture(gymnasium.Env):
    """Shows an image of bytes; three steps to an episode."""

    action_space = Discrete(3)
    observation_space = Box(0, 255, (8, 8, 1), np.uint8)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.low + 7, {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.high - 3, 1.0, self.steps == 3, False, {}


def side_by_side(makers, mode):
    """A vector environment with one of the MODES."""
    if len(MODES) == 1:
        return SyncVectorEnv(makers)
    return SyncVectorEnv(makers, autoreset_mode=mode)


def trainer(env, estimator="a2c", compiled=True, units=(8,), **arguments):
    """A trainer with a small policy that runs without XLA."""
    policy = tf_relax.rl.dense_policy(arguments.pop("policy_env", env), units=units)
    made = tf_relax.rl.PolicyGradient(policy, env, estimator=estimator, **arguments)
    if compiled:
        made.compile("adam", jit_compile=False)
    return made
