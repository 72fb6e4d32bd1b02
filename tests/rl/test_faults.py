"""What fails during training is named with its episode and step, and training can go on."""

import re

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from tests.rl.envs import MODES, Counter, side_by_side, trainer

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
