"""Log-variance of the policy gradient of one episode, at fixed policies along a training run.

    python benchmarks/policy_gradient_variance.py --seeds 5

CartPole of at most 200 steps, where the time limit is an end of all rewards. A leader learns from
`--batch` episodes per update. The contestants watch: they share its policy and are given the same
episodes, train their own value and surrogate on them, and leave the policy alone. Every so many
updates the policy is held still. The contestants watch for another `--fit` updates, so that what is
measured is what value and surrogate can do rather than how they keep up. Then `--episodes` more are
recorded, and each contestant says what gradient each of these has. Printed is the logarithm (in
nats) of the total variance over these episodes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium
import keras
import numpy as np

from tf_relax import rl, surrogates
from tf_relax._src.rl.gradient.squared_gradient import trajectory_gradients
from tf_relax._src.rl.world.rollout import Rollout, to_tensors


def cartpole() -> gymnasium.Env:
    return gymnasium.make("CartPole-v1", max_episode_steps=200)


def network() -> surrogates.Surrogate:
    return surrogates.Network((64, 64), "tanh", looks_at=("context",))


def linear() -> surrogates.Surrogate:
    return rl.LinearAdvantage((64, 64), "tanh")


def value() -> keras.Model:
    return rl.dense_value((4,), (64, 64), "tanh")


def contestants() -> dict[str, Callable[[], dict[str, Any]]]:
    """Returns the arguments of every trainer by the name that the table gives it."""
    later = rl.PolicyRelax(trajectory_wise=True)
    fitted = rl.PolicyRelax(off_policy=rl.OffPolicy(updates=20))
    both = rl.PolicyRelax(trajectory_wise=True, off_policy=rl.OffPolicy(updates=20))
    return {
        "reinforce": lambda: {"estimator": "reinforce"},
        "a2c": lambda: {"estimator": "a2c", "value": value()},
        "relax": lambda: {"estimator": "relax", "surrogate": network()},
        "relax, linear": lambda: {"estimator": "relax", "surrogate": linear()},
        "V + c": lambda: {"estimator": "relax", "value": value(), "surrogate": network()},
        "V + c, linear": lambda: {"estimator": "relax", "value": value(), "surrogate": linear()},
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
    seen = trainer.seen(to_tensors(raw))
    gradients = trajectory_gradients(trainer, seen, evidence.logit_gradients)
    flat = np.concatenate([g.numpy().reshape(len(g), -1) for g in gradients], axis=1)
    return float(np.log(flat.var(axis=0, ddof=1).sum()))


def run(seed: int, arguments: argparse.Namespace) -> list[list[float]]:
    """Returns a row of log-variances per point of the training run."""
    keras.utils.set_random_seed(seed)
    policy = rl.dense_policy(cartpole, units=(10, 10), activation="relu")

    def trainer(policy_optimizer: Any, options: dict[str, Any]) -> rl.PolicyGradient:
        made = rl.PolicyGradient(
            policy, cartpole, n_envs=arguments.batch, bootstrap=None, **options
        )
        made.compile(
            policy_optimizer,
            value_optimizer=keras.optimizers.Adam(0.01),
            surrogate_optimizer=keras.optimizers.Adam(0.01),
            value_steps=5,
            jit_compile=not arguments.no_jit,
        )
        return made

    leader = trainer(keras.optimizers.Adam(0.01), contestants()[arguments.leader]())
    watching = [trainer(keras.optimizers.SGD(0.0), make()) for make in contestants().values()]
    collector = leader._collector()
    rng = np.random.default_rng(seed)

    def watch(seed: int | None = None) -> Rollout:
        raw, _ = collector.collect(seed)
        for each in watching:
            each.learn(raw, rng)
        return raw

    rows = []
    for update in range(1, arguments.updates + 1):
        leader.learn(watch(seed if update == 1 else None))
        if update % arguments.every:
            continue
        for _ in range(arguments.fit):
            watch()
        collector.n_episodes = arguments.episodes
        raw, _ = collector.collect()
        collector.n_episodes = arguments.batch
        rows.append([log_variance(each, raw) for each in watching])
        length = raw.mask.sum() / raw.mask.shape[1]
        shown = "  ".join(f"{x:7.2f}" for x in rows[-1])
        print(f"seed {seed}  update {update:4d}  length {length:5.1f}  {shown}", flush=True)
    return rows


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    """Runs the benchmark; returns the log-variances of every contestant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=80)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=10, help="episodes per update")
    parser.add_argument("--fit", type=int, default=50, help="updates at each of the policies")
    parser.add_argument(
        "--leader", choices=list(contestants()), default="a2c", help="who trains the policy"
    )
    parser.add_argument("--no-jit", action="store_true", help="do not compile with XLA")
    arguments = parser.parse_args(argv)
    names = list(contestants())
    print("log-variance in nats:", " | ".join(names))
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    rows = np.array([run(seed, arguments) for seed in seeds])  # [seeds, policies, names]
    _, policies, _ = rows.shape
    print(f"\nmean over {len(rows)} seeds of {policies} policies, and how much less than others:")
    for k, name in enumerate(names):
        below = []
        for other in ("reinforce", "a2c"):
            # Policies of one seed are related: the error is that of independent seeds.
            each = (rows[:, :, names.index(other)] - rows[:, :, k]).mean(axis=1)
            error = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan
            below.append(f"{other} {each.mean():6.2f} +- {error:4.2f}")
        print(f"{name:24s} {rows[:, :, k].mean():6.2f}   {below[0]}   {below[1]}")
    return dict(zip(names, rows.reshape(-1, len(names)).T.tolist(), strict=True))


if __name__ == "__main__":
    main()
