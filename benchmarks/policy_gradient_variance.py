"""Log-variance of the policy gradient of one episode, at fixed policies along a training run.

    python benchmarks/policy_gradient_variance.py --seeds 5

CartPole of at most 200 steps, where the time limit is an end of all rewards. One trainer learns;
the others watch: they share its policy, are given the same rollouts, train their own value and
surrogate on them, and leave the policy alone. Every so many updates everything is held still,
episodes are recorded with the policy as it is, and each estimator says what gradient each episode
has. Printed is the logarithm (in nats) of the total variance over these episodes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium
import keras
import numpy as np

from tf_relax import rl, surrogates
from tf_relax.rl.learner import trajectory_gradients
from tf_relax.rl.rollout import to_tensors


def cartpole() -> gymnasium.Env:
    return gymnasium.make("CartPole-v1", max_episode_steps=200)


def network() -> surrogates.Surrogate:
    return surrogates.Network((10, 10), "relu", looks_at=("context",))


def linear() -> surrogates.Surrogate:
    return rl.LinearAdvantage((10, 10), "relu")


def value() -> keras.Model:
    return rl.dense_value((4,), (10, 10), "relu")


def contestants() -> dict[str, Callable[[], dict[str, Any]]]:
    """Returns the arguments of every trainer by the name that the table gives it."""
    later = rl.Relax(trajectory_wise=True)
    fitted = rl.Relax(off_policy=rl.OffPolicy(updates=20))
    both = rl.Relax(trajectory_wise=True, off_policy=rl.OffPolicy(updates=20))
    return {
        "reinforce": lambda: {"estimator": "reinforce"},
        "a2c": lambda: {"estimator": "a2c", "value": value()},
        "relax": lambda: {"estimator": "relax", "surrogate": network()},
        "V + c": lambda: {"estimator": "relax", "value": value(), "surrogate": network()},
        "V + c, off-policy": lambda: {
            "estimator": fitted,
            "value": value(),
            "surrogate": linear(),
        },
        "V + c, trajectory-wise": lambda: {
            "estimator": later,
            "value": value(),
            "surrogate": linear(),
        },
        "V + c, both": lambda: {"estimator": both, "value": value(), "surrogate": linear()},
    }


def log_variance(trainer: rl.PolicyGradient, raw: Any) -> float:
    """Returns the logarithm of the total variance of the gradient of one episode."""
    evidence = trainer.differentiate(raw)
    observations = to_tensors(raw).observations
    gradients = trajectory_gradients(trainer, observations, evidence.logit_gradients)
    flat = np.concatenate([g.numpy().reshape(len(g), -1) for g in gradients], axis=1)
    return float(np.log(flat.var(axis=0, ddof=1).sum()))


def run(seed: int, arguments: argparse.Namespace) -> list[list[float]]:
    """Returns a row of log-variances per point of the training run."""
    updates, every, episodes = arguments.updates, arguments.every, arguments.episodes
    leader = arguments.leader
    keras.utils.set_random_seed(seed)
    policy = rl.dense_policy(cartpole, units=(10, 10), activation="relu")
    trainers = {}
    for name, make in contestants().items():
        trainer = rl.PolicyGradient(policy, cartpole, n_episodes=1, bootstrap=None, **make())
        learns = name == leader
        trainer.compile(
            keras.optimizers.Adam(0.01) if learns else keras.optimizers.SGD(0.0),
            value_optimizer=keras.optimizers.Adam(0.01),
            surrogate_optimizer=keras.optimizers.Adam(0.01),
            value_steps=5,
            jit_compile=not arguments.no_jit,
        )
        trainers[name] = trainer
    first = trainers[leader]
    collector = first._collector()
    rows = []
    for update in range(updates + 1):
        if update % every == 0 and update:
            collector.n_episodes = episodes
            raw, _ = collector.collect()
            collector.n_episodes = 1
            rows.append([log_variance(trainer, raw) for trainer in trainers.values()])
            length = raw.mask.sum() / episodes
            shown = "  ".join(f"{x:7.2f}" for x in rows[-1])
            print(f"seed {seed}  update {update:4d}  length {length:5.1f}  {shown}", flush=True)
        raw, _ = collector.collect(seed if update == 0 else None)
        # Those who watch come first: they are given the policy that acted.
        for name in sorted(trainers, key=lambda name: name == leader):
            trainers[name].learn(raw)
    return rows


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    """Runs the benchmark; returns the log-variances of every contestant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--leader", default="relax", help="whose gradient the policy follows")
    parser.add_argument("--no-jit", action="store_true", help="do not compile with XLA")
    arguments = parser.parse_args(argv)
    names = list(contestants())
    print("log-variance in nats:", " | ".join(names))
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    rows = np.array([run(seed, arguments) for seed in seeds])
    flat = rows.reshape(-1, len(names))
    print(f"\nmean over {len(flat)} policies, and below reinforce and a2c (+- standard error):")
    for k, name in enumerate(names):
        below = []
        for other in ("reinforce", "a2c"):
            difference = flat[:, names.index(other)] - flat[:, k]
            error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(flat) > 1 else np.nan
            below.append(f"{difference.mean():6.2f} +- {error:4.2f}")
        print(f"{name:24s} {flat[:, k].mean():6.2f}   {below[0]}   {below[1]}")
    return dict(zip(names, flat.T.tolist(), strict=True))


if __name__ == "__main__":
    main()
