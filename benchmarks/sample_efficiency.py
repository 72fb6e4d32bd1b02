"""What policies earn after some frames: the defaults here, and PPO with the settings of its zoo.

    python benchmarks/sample_efficiency.py --competitor-python PATH
    python benchmarks/sample_efficiency.py --env LunarLander-v3 --first-seed 5 --seeds 5
    python benchmarks/sample_efficiency.py --table sample_efficiency.json

`rl.make_trainer` with what `TASKS` says besides, and Stable-Baselines3's PPO in another interpreter
with the settings that RL Baselines3 Zoo has for the environment (trained for as many frames). The
figure is the mean return of the last 100 episodes of training, in which actions are sampled. Runs
that the output file has already are not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import keras
import numpy as np
from tqdm import tqdm

import tf_relax


class Repeat(gymnasium.Wrapper):
    """Takes every action several times, and returns the sum of the rewards."""

    def __init__(self, env: gymnasium.Env, times: int):
        super().__init__(env)
        self.times = times

    def step(self, action: Any) -> Any:
        total = 0.0
        for _ in range(self.times):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


class Task(NamedTuple):
    """An environment, and what is set besides the defaults.

    Attributes:
        frames: of the environment itself, to train for.
        bar: that a policy has to reach.
        arguments: of `rl.make_trainer`.
        repeat: how often every action is taken.
        zoo: of PPO, with `n_envs` and `normalize`; the schedules of the zoo are strings.
    """

    frames: int
    bar: float
    arguments: dict[str, Any]
    zoo: dict[str, Any]
    repeat: int = 1


TASKS = {
    "CartPole-v1": Task(
        100_000,
        475,
        {},
        {
            "n_envs": 8, "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98,
            "n_epochs": 20, "learning_rate": "lin_0.001", "clip_range": "lin_0.2",
        },
    ),
    "Acrobot-v1": Task(
        100_000,
        -100,
        {},
        {"normalize": True, "n_envs": 16, "n_steps": 256, "gae_lambda": 0.94, "n_epochs": 4},
    ),
    "Pendulum-v1": Task(
        300_000,
        -250,
        {"gamma": 0.95, "n_steps": 256},
        {
            "n_envs": 4, "n_steps": 1024, "gae_lambda": 0.95, "gamma": 0.9, "n_epochs": 10,
            "learning_rate": 1e-3, "use_sde": True, "sde_sample_freq": 4,
        },
    ),
    "MountainCarContinuous-v0": Task(
        100_000,
        90,
        {"n_steps": 32, "log_scale": 1.0},
        {
            "normalize": True, "n_envs": 1, "n_steps": 8, "batch_size": 256, "gamma": 0.9999,
            "gae_lambda": 0.9, "n_epochs": 10, "learning_rate": 7.77e-5, "ent_coef": 0.00429,
            "clip_range": 0.1, "max_grad_norm": 5, "vf_coef": 0.19, "use_sde": True,
            "policy_kwargs": {"log_std_init": -3.29, "ortho_init": False},
        },
        repeat=8,
    ),
    "LunarLander-v3": Task(
        1_000_000,
        200,
        {"gamma": 0.999, "gae_lambda": 0.98},
        {
            "n_envs": 16, "n_steps": 1024, "batch_size": 64, "gae_lambda": 0.98, "gamma": 0.999,
            "n_epochs": 4, "ent_coef": 0.01,
        },
    ),
}  # fmt: skip

# Runs in the other interpreter: settings come in as JSON, the last returns go out.
WORKER = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

env, seed, frames, zoo = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])

def schedule(x):
    start = float(x[4:])
    return lambda left: left * start

class Returns(BaseCallback):
    every = []
    def _on_step(self):
        for info in self.locals["infos"]:
            if "episode" in info:
                self.every.append(float(info["episode"]["r"]))
        return True

envs = make_vec_env(env, n_envs=zoo.pop("n_envs"), seed=seed)
if zoo.pop("normalize", False):
    envs = VecNormalize(envs, gamma=zoo.get("gamma", 0.99))
zoo = {k: schedule(v) if isinstance(v, str) else v for k, v in zoo.items()}
model = PPO("MlpPolicy", envs, device="cpu", seed=seed, **zoo)
model.learn(frames, callback=Returns())
print(json.dumps(Returns.every[-100:]))
"""


def ours(name: str, seed: int, frames: int, estimator: str) -> list[float]:
    """Trains with the defaults and returns the returns of the last 100 episodes."""
    task = TASKS[name]
    keras.utils.set_random_seed(seed)

    def make() -> gymnasium.Env:
        env = gymnasium.make(name)
        return Repeat(env, task.repeat) if task.repeat > 1 else env

    trainer = tf_relax.rl.make_trainer(make, estimator, **task.arguments)
    trainer.fit(frames // task.repeat, seed=seed, verbose=0)
    return list(trainer.episode_returns)[-100:]


def theirs(name: str, seed: int, frames: int, python: str) -> list[float]:
    """Trains PPO of Stable-Baselines3 in another process."""
    zoo = json.dumps(TASKS[name].zoo)
    done = subprocess.run(
        [python, "-c", WORKER, name, str(seed), str(frames), zoo],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    returns: list[float] = json.loads(done.stdout.splitlines()[-1])
    return returns


def table(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Prints what was measured; returns the lowest mean of a seed, by environment and name."""
    print("| environment | frames | trained by | mean of seeds +- deviation | lowest | seeds |")
    print("|---" * 6 + "|")
    lowest: dict[str, dict[str, float]] = {}
    for name, by_contestant in results.items():
        for contestant, runs in by_contestant.items():
            means = [run["mean"] for run in runs.values()]
            if not means:
                continue
            lowest.setdefault(name, {})[contestant] = min(means)
            frames = max(run["frames"] for run in runs.values())
            print(
                f"| {name} (bar {TASKS[name].bar:g}) | {frames:,} | {contestant} | "
                f"{np.mean(means):.1f} +- {np.std(means):.1f} | {min(means):.1f} | "
                f"{', '.join(f'{mean:.0f}' for mean in means)} |"
            )
    return lowest


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--env", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--estimators", nargs="+", default=["a2c"])
    parser.add_argument("--competitor-python", metavar="PATH", help="has stable-baselines3")
    parser.add_argument("--frames", type=int, help="instead of those of the task")
    parser.add_argument("--output", type=Path, default=Path("sample_efficiency.json"))
    parser.add_argument("--table", type=Path, help="only prints what the file has")
    arguments = parser.parse_args(argv)
    if arguments.table:
        return table(json.loads(arguments.table.read_text()))
    results: dict[str, Any] = {}
    if arguments.output.exists():
        results = json.loads(arguments.output.read_text())
    contestants = [f"tf_relax, {name}" for name in arguments.estimators]
    if arguments.competitor_python:
        contestants.append("Stable-Baselines3, PPO")
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    jobs = [(name, k, seed) for name in arguments.env for k in contestants for seed in seeds]
    for name, contestant, seed in tqdm(jobs, desc="runs", file=sys.stderr):
        runs = results.setdefault(name, {}).setdefault(contestant, {})
        frames = arguments.frames or TASKS[name].frames
        if str(seed) in runs:
            continue
        start = time.perf_counter()
        if contestant.startswith("tf_relax"):
            last = ours(name, seed, frames, contestant.split(", ")[1])
        else:
            last = theirs(name, seed, frames, arguments.competitor_python)
        mean = float(np.mean(last)) if last else float("nan")
        seconds = time.perf_counter() - start
        runs[str(seed)] = {"mean": mean, "frames": frames, "seconds": seconds}
        tqdm.write(f"{name}, {contestant}, seed {seed}: {mean:.1f} ({seconds:.0f} s)")
        arguments.output.write_text(json.dumps(results, indent=1))
    return table(results)


if __name__ == "__main__":
    main()
