"""Frames per second of A2C in training, here and in Stable-Baselines3.

    python benchmarks/policy_gradient_throughput.py

CartPole-v1, 8 environments in one process, 5 steps each per update, policy and value of two layers
of 64 tanh units, RMSprop with Stable-Baselines3's numbers: its defaults throughout, on the CPU. All
take turns, and ratios are medians over the rounds, so that a busy machine disturbs all alike.
Compilation and the first updates are not counted. Stable-Baselines3 may live in another environment
than this package: `--competitor-python` names its interpreter. Networks this small gain nothing
from several threads, and PyTorch's may get in each other's way: it runs with its default and with
one thread, and what counts is the better of the two.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import keras
from tqdm import tqdm

import tf_relax

ENVIRONMENTS, STEPS = 8, 5

# A process of its own: it is told a number of frames per line, and answers with seconds.
WORKER = """
import sys, time
import stable_baselines3, torch
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env

environments, steps, threads = map(int, sys.argv[1:])
if threads:
    torch.set_num_threads(threads)
envs = make_vec_env("CartPole-v1", n_envs=environments, seed=0)
model = A2C("MlpPolicy", envs, n_steps=steps, device="cpu", seed=0)
model.learn(50 * environments * steps)
found = f"{stable_baselines3.__version__}, torch threads: {torch.get_num_threads()}"
print(f"stable-baselines3 {found}", "(default)" if not threads else "", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    model.learn(int(line), reset_num_timesteps=False)
    print(time.perf_counter() - start, flush=True)
"""


def ours(estimator: str, jit_compile: bool) -> Callable[[int], float]:
    """Returns a function that trains for some frames more and says how many seconds it took."""
    keras.utils.set_random_seed(0)
    trainer = tf_relax.rl.PolicyGradient(
        tf_relax.rl.dense_policy("CartPole-v1"),
        "CartPole-v1",
        estimator=estimator,
        value=tf_relax.rl.dense_value((4,)),
        n_steps=STEPS,
        n_envs=ENVIRONMENTS,
    )
    trainer.compile(
        keras.optimizers.RMSprop(7e-4, rho=0.99, epsilon=1e-5, global_clipnorm=0.5),
        entropy_weight=0.0,
        jit_compile=jit_compile,
    )
    trainer.fit(50 * ENVIRONMENTS * STEPS, seed=0, verbose=0)

    def seconds(frames: int) -> float:
        start = time.perf_counter()
        trainer.fit(frames, verbose=0)
        return time.perf_counter() - start

    return seconds


class Competitor:
    """Stable-Baselines3 in a process of its own.

    Args:
        python: interpreter that has it.
        threads: of PyTorch; 0 leaves its default.
    """

    def __init__(self, python: str, threads: int):
        arguments = [str(number) for number in (ENVIRONMENTS, STEPS, threads)]
        self.process = subprocess.Popen(
            [python, "-c", WORKER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.name = self._answer()

    def __enter__(self) -> Competitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.communicate()  # closes its input, at which it ends

    def __call__(self, frames: int) -> float:
        """Trains for some frames more and returns the seconds."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{frames}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.communicate()
            raise RuntimeError(
                f"{self.process.args[0]} could not run Stable-Baselines3's A2C, see its own error "
                "above. Install stable-baselines3 there, or name another --competitor-python."
            )
        return line.strip()


def main(argv: Sequence[str] | None = None) -> float:
    """Runs the benchmark and returns our frames per second over the competitor's best."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=8000, help="frames per round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--estimator", choices=["a2c", "relax"], default="a2c", help="ours")
    parser.add_argument("--no-jit", action="store_true", help="do not compile ours with XLA")
    parser.add_argument(
        "--competitor-python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter with stable-baselines3 (default: this one)",
    )
    parser.add_argument(
        "--torch-threads",
        type=int,
        nargs="+",
        default=[0, 1],
        help="threads of PyTorch, one competitor each; 0 is its own choice (default: 0 1)",
    )
    args = parser.parse_args(argv)

    with contextlib.ExitStack() as stack:
        contestants: dict[str, Callable[[int], float]] = {}
        for threads in args.torch_threads:
            competitor = stack.enter_context(Competitor(args.competitor_python, threads))
            contestants[competitor.name] = competitor
        mine = f"tf_relax, {args.estimator}"
        contestants[mine] = ours(args.estimator, not args.no_jit)
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for number in tqdm(range(args.rounds), desc="rounds"):
            # Forwards and backwards in turn: nobody always follows the same one.
            for name in list(contestants)[:: -1 if number % 2 else 1]:
                seconds[name].append(contestants[name](args.frames))
    for name, times in seconds.items():
        speeds = [args.frames / t for t in times]
        print(f"{name:<48} {describe(speeds, '.0f')} frames per second")
    ratios = []
    for name, times in seconds.items():
        if name != mine:
            each = [theirs / ours for theirs, ours in zip(times, seconds[mine], strict=True)]
            ratios.append(statistics.median(each))
            print(f"{'ratio to ' + name:<48} {describe(each, '.2f')}")
    return min(ratios)


def describe(values: list[float], spec: str) -> str:
    """Returns the median and, in parentheses, the lowest and the highest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{spec}} ({low:{spec}} to {high:{spec}})"


if __name__ == "__main__":
    main()
