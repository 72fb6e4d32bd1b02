"""Frames per second of roll-outs, environments in this process and in processes of their own.

    python benchmarks/policy_gradient_processes.py
    python benchmarks/policy_gradient_processes.py --env HalfCheetah-v5 --processes 1 2 4 8

A2C with some environments that step one after the other, and with one in each of some processes by
Gymnasium's AsyncVectorEnv, which asks all of them for a step and waits for the slowest. With
`--milliseconds` every step takes at least so long, as in a slower environment. All take turns;
medians over the rounds.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from typing import Any

import gymnasium
import keras
from tqdm import tqdm

import tf_relax


class Slow(gymnasium.Wrapper):
    """Computes for a while in every step."""

    def __init__(self, env: gymnasium.Env, milliseconds: float):
        super().__init__(env)
        self.seconds = milliseconds / 1000

    def step(self, action: Any) -> Any:
        until = time.perf_counter() + self.seconds
        result = self.env.step(action)
        while time.perf_counter() < until:
            pass
        return result


def make(env: str, milliseconds: float) -> gymnasium.Env:
    """Makes one environment."""
    return Slow(gymnasium.make(env), milliseconds) if milliseconds else gymnasium.make(env)


def trainer_for(arguments: argparse.Namespace, processes: int) -> tf_relax.rl.PolicyGradient:
    """Returns a trainer whose environments are in so many processes; in this one for 0."""
    keras.utils.set_random_seed(0)
    one = functools.partial(make, arguments.env, arguments.milliseconds)
    policy = tf_relax.rl.dense_policy(one)
    if processes:
        env: Any = functools.partial(gymnasium.vector.AsyncVectorEnv, [one] * processes)
    else:
        env = one
    count = 1 if processes else arguments.environments
    trainer = tf_relax.rl.PolicyGradient(policy, env, n_steps=arguments.n_steps, n_envs=count)
    trainer.compile(keras.optimizers.RMSprop(1e-4))
    trainer.fit(20 * arguments.n_steps * arguments.environments, seed=0, verbose=0)
    return trainer


def main(argv: list[str] | None = None) -> dict[int, float]:
    """Prints the table; returns the median frames per second by the number of processes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--environments", type=int, default=4, help="in this process")
    parser.add_argument("--milliseconds", type=float, default=0.0, help="at least, of every step")
    parser.add_argument("--n-steps", type=int, default=32)
    parser.add_argument("--frames", type=int, default=4000, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    trainers = {n: trainer_for(arguments, n) for n in [0, *arguments.processes]}
    speeds: dict[int, list[float]] = {n: [] for n in trainers}
    for _ in tqdm(range(arguments.rounds), desc="rounds"):
        for n, trainer in trainers.items():
            before, start = trainer.frames, time.perf_counter()
            trainer.fit(arguments.frames, verbose=0)
            speeds[n].append((trainer.frames - before) / (time.perf_counter() - start))
    print("| environments | frames per second | lowest | highest |\n|---|---|---|---|")
    for n, found in speeds.items():
        where = f"{n} processes" if n else f"{arguments.environments} in this process"
        print(f"| {where} | {statistics.median(found):.0f} | {min(found):.0f} | {max(found):.0f} |")
        trainers[n].environments.close()
    return {n: statistics.median(found) for n, found in speeds.items()}


if __name__ == "__main__":
    main()
