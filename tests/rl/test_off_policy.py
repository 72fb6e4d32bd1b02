"""The memory of earlier steps, and the surrogate that is fitted to it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rl.small_mdp import list_all, make_trainer
from tf_relax._src.rl.gradient.off_policy import Memory
from tf_relax._src.rl.world.rollout import Rollout
from tf_relax.rl import LinearAdvantage, OffPolicy, PolicyRelax


def numbered(first, count, columns=1, masked=()):
    """Steps whose every field holds their number."""
    numbers = first + np.arange(count * columns, dtype=np.float32).reshape(count, columns)
    wide, mask = np.stack([numbers, numbers], -1), np.ones_like(numbers)
    for place in masked:
        mask[place] = 0
    return Rollout(wide, wide, wide, numbers, wide, numbers, numbers, mask), numbers


def held(memory):
    return sorted(memory._arrays[2][: memory.size].tolist())


def test_the_oldest_steps_make_room():
    memory = Memory(5)
    memory.add(*numbered(0, 3))
    assert (memory.size, held(memory)) == (3, [0, 1, 2])
    memory.add(*numbered(3, 3))
    assert (memory.size, held(memory)) == (5, [1, 2, 3, 4, 5])
    memory.add(*numbered(6, 2))
    assert held(memory) == [3, 4, 5, 6, 7]
    memory.add(*numbered(10, 12))  # more than fits: the latest
    assert held(memory) == [17, 18, 19, 20, 21]
    memory.add(*numbered(30, 1))
    assert held(memory) == [18, 19, 20, 21, 30]


def test_padding_is_not_remembered_and_fields_stay_together(rng):
    memory = Memory(20)
    memory.add(*numbered(0, 4, columns=2, masked=[(3, 0), (2, 1)]))
    assert held(memory) == [0, 1, 2, 3, 4, 7]
    fields = memory.sample((50, 3), rng)
    assert [x.shape for x in fields] == [(50, 3, 2)] * 2 + [(50, 3), (50, 3, 2)] + [(50, 3)] * 2
    for field in fields:
        value = field[..., 0] if field.ndim == 3 else field
        np.testing.assert_array_equal(value, fields[2])
    assert set(np.unique(fields[2])) == {0, 1, 2, 3, 4, 7}


@pytest.mark.parametrize("argument", ["capacity", "updates", "batch_size"])
def test_numbers_below_1_are_refused(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be at least 1. Received: 0"):
        OffPolicy(**{argument: 0})


def test_configuration():
    config = PolicyRelax(off_policy=OffPolicy(updates=50)).get_config()
    assert PolicyRelax.from_config(config).off_policy.updates == 50
    assert "updates=50" in repr(OffPolicy(updates=50))


def off_policy_trainer(rng, with_value, updates=60):
    trainer = make_trainer(
        "choice",
        rng,
        estimator=PolicyRelax(off_policy=OffPolicy(updates=updates, batch_size=64)),
        surrogate=LinearAdvantage(units=(8,)),
        with_value=with_value,
    )
    trainer.compile(
        keras.optimizers.SGD(0.1),
        value_optimizer=keras.optimizers.SGD(0.0),
        surrogate_optimizer=keras.optimizers.Adam(0.05),
        entropy_weight=0.0,
        jit_compile=False,
    )
    listed = list_all(trainer, rng)
    columns = rng.choice(np.flatnonzero(np.abs(listed.rollout.noise).max((0, 2)) < 3), 64)
    return trainer, Rollout(*[field[:, columns] for field in listed.rollout.rows])


@pytest.mark.parametrize("with_value", [False, True])
def test_fitting_reduces_the_error(with_value, rng):
    trainer, rollout = off_policy_trainer(rng, with_value)
    returns = trainer.differentiate(rollout).returns.numpy()
    counts = rollout.mask > 0
    states, actions, successors = [
        tf.constant(x[counts]) for x in (rollout.observations, rollout.actions, rollout.successors)
    ]
    target = returns[counts]
    if with_value:
        after = (1 - rollout.terminated[counts]) * trainer.values(successors)
        target = rollout.rewards[counts] + trainer.gamma * after - trainer.values(states)

    def error():
        c = trainer.critic.at(actions, trainer.logits(states), states)
        return float(np.mean(np.square(c - target)))

    # The best that a function of state and action can do.
    cells = 2 * rollout.observations[counts][:, 1] + rollout.actions[counts][:, 1]
    best = np.mean([np.var(np.asarray(target)[cells == k]) * np.sum(cells == k) for k in range(4)])
    best *= 4 / len(cells)
    before = error()
    trainer.learn(rollout, rng)
    trainer.learn(rollout, rng)
    assert best < 0.5 * before
    assert error() < best + 0.1 * (before - best)


def test_the_gradient_is_taken_before_the_fit(rng):
    """The surrogate that a rollout is judged by has not seen it."""
    trainer, rollout = off_policy_trainer(rng, with_value=False, updates=2)
    evidence = trainer.differentiate(rollout)
    assert evidence.surrogate_gradients == []
    policy = [variable.numpy() for variable in trainer.policy.trainable_variables]
    critic = [variable.numpy() for variable in trainer.critic.surrogate.trainable_variables]
    trainer.learn(rollout, rng)
    for variable, old, gradient in zip(
        trainer.policy.trainable_variables, policy, evidence.gradients, strict=True
    ):
        np.testing.assert_allclose(variable, old - 0.1 * np.asarray(gradient), atol=1e-6)
    for variable, old in zip(trainer.critic.surrogate.trainable_variables, critic, strict=True):
        assert not np.array_equal(variable, old)
