"""Log-variance of the policy gradient of one episode, at fixed policies along a training run.

    python benchmarks/policy_gradient_variance.py --seeds 5
    python benchmarks/policy_gradient_variance.py --policy recurrent --seeds 3 --fit 20
    python benchmarks/policy_gradient_variance.py --policy convolutional --seeds 3 --fit 20

CartPole of at most 200 steps, where the time limit is an end of all rewards. A leader learns from
`--batch` episodes per update. The contestants watch: they share its policy and are given the same
episodes, train their own value and surrogate on them, and leave the policy alone. Every so many
updates the policy is held still. The contestants watch for another `--fit` updates, so that what is
measured is what value and surrogate can do rather than how they keep up. Then `--episodes` more are
recorded, and each contestant says what gradient each of these has. Printed is the logarithm (in
nats) of the total variance over these episodes. A recurrent policy sees where cart and pole are,
and not how fast they move; a convolutional one a picture of now and of the step before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import keras
import numpy as np
import tensorflow as tf

from tf_relax import rl, surrogates
from tf_relax._src.rl.gradient.squared_gradient import trajectory_gradients
from tf_relax._src.rl.world.rollout import Rollout, to_tensors


def cartpole() -> gymnasium.Env:
    return gymnasium.make("CartPole-v1", max_episode_steps=200)


def positions() -> gymnasium.Env:
    """CartPole without its velocities."""
    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    return gymnasium.wrappers.TransformObservation(cartpole(), lambda x: x[[0, 2]], space)


class Pictures(gymnasium.Wrapper):
    """CartPole as an image of 16 rows: the cart below, the pole's upper end above, twice."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(0, 255, (16, 24, 2), np.uint8)
        self.before = np.zeros((16, 24), np.uint8)

    def _draw(self, state: np.ndarray) -> np.ndarray:
        now = np.zeros((16, 24), np.uint8)
        # Smeared over two columns, so that a picture is no coarser than a number.
        for rows, place in ((slice(8, 16), state[0] / 2.4), (slice(0, 8), state[2] / 0.21)):
            column = float(np.clip(11.5 + 11 * place, 0, 22.99))
            left, share = int(column), column - int(column)
            now[rows, left], now[rows, left + 1] = round(255 * (1 - share)), round(255 * share)
        both, self.before = np.stack([now, self.before], axis=-1), now
        return both

    def reset(self, **options: Any) -> Any:
        self.before = np.zeros((16, 24), np.uint8)
        state, info = self.env.reset(**options)
        return self._draw(state), info

    def step(self, action: Any) -> Any:
        state, *rest = self.env.step(action)
        return self._draw(state), *rest


def pictures() -> gymnasium.Env:
    return Pictures(cartpole())


def torso() -> keras.Model:
    return rl.convolutional_torso((16, 24, 2), ((8, 4, 2), (16, 3, 2)), (32,))


class Kind(NamedTuple):
    """Where a kind of policy acts, and what its networks are."""

    make: Callable[[], gymnasium.Env]
    policy: Callable[[], keras.Model]
    value: Callable[[], keras.Model]


KINDS = {
    "dense": Kind(
        cartpole,
        lambda: rl.dense_policy(cartpole, units=(10, 10), activation="relu"),
        lambda: rl.dense_value((4,), (64, 64), "tanh"),
    ),
    "recurrent": Kind(
        positions,
        lambda: rl.recurrent_policy(positions, units=16),
        lambda: rl.recurrent_value((2,), units=32),
    ),
    "convolutional": Kind(
        pictures,
        lambda: rl.actor_critic(pictures, torso())[0],
        lambda: rl.actor_critic(pictures, torso())[1],
    ),
}


def network() -> surrogates.Surrogate:
    return surrogates.Network((64, 64), "tanh", looks_at=("context",))


def linear() -> surrogates.Surrogate:
    return rl.LinearAdvantage((64, 64), "tanh")


def contestants(kind: str = "dense") -> dict[str, Callable[[], dict[str, Any]]]:
    """Returns the arguments of every trainer by the name that the table gives it."""
    value = KINDS[kind].value
    later = rl.PolicyRelax(trajectory_wise=True)
    fitted = rl.PolicyRelax(off_policy=rl.OffPolicy(updates=20))
    both = rl.PolicyRelax(trajectory_wise=True, off_policy=rl.OffPolicy(updates=20))
    every: dict[str, Callable[[], dict[str, Any]]] = {
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
    if kind == "recurrent":  # single steps of which cannot be remembered
        del every["V + c, off-policy"], every["V + c, both"]
    return every


def log_variance(trainer: rl.PolicyGradient, raw: Any) -> float:
    """Returns the logarithm of the total variance of the gradient of one episode."""

    @tf.function(autograph=False)  # else the loops of recurrent policies would be Python's
    def each_episode() -> list[tf.Tensor]:
        evidence = trainer.differentiate(raw)
        seen = trainer.seen(to_tensors(raw))
        return trajectory_gradients(trainer, seen, evidence.logit_gradients)

    gradients = each_episode()
    flat = np.concatenate([g.numpy().reshape(len(g), -1) for g in gradients], axis=1)
    return float(np.log(flat.var(axis=0, ddof=1).sum()))


def run(seed: int, arguments: argparse.Namespace) -> list[list[float]]:
    """Returns a row of log-variances per point of the training run."""
    keras.utils.set_random_seed(seed)
    kind = KINDS[arguments.policy]
    policy = kind.policy()

    def trainer(policy_optimizer: Any, options: dict[str, Any]) -> rl.PolicyGradient:
        made = rl.PolicyGradient(
            policy, kind.make, n_envs=arguments.batch, bootstrap=None, **options
        )
        made.compile(
            policy_optimizer,
            value_optimizer=keras.optimizers.Adam(0.01),
            surrogate_optimizer=keras.optimizers.Adam(0.01),
            value_steps=5,
            jit_compile=not arguments.no_jit,
        )
        return made

    leader = trainer(keras.optimizers.Adam(0.01), contestants(arguments.policy)[arguments.leader]())
    others = contestants(arguments.policy).values()
    watching = [trainer(keras.optimizers.SGD(0.0), make()) for make in others]
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
    parser.add_argument("--policy", choices=KINDS, default="dense", help="its kind")
    parser.add_argument("--no-jit", action="store_true", help="do not compile with XLA")
    arguments = parser.parse_args(argv)
    names = list(contestants(arguments.policy))
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
