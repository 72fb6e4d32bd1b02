r"""Policy gradients on Gymnasium: how soon each estimator solves an environment, and how noisily.

    REINFORCE  g_t = R_t s_t                                        s_t = d log pi(a_t | s_t)
    A2C        g_t = [R_t - V(s_t)] s_t
    LAX        g_t = [R_t - c(a_t, s_t)] s_t + dc(a_t, s_t)         continuous actions
    RELAX      g_t = [R_t - c(z~_t, s_t)] s_t + dc(z_t, s_t) - dc(z~_t, s_t)

`lax_value` and `relax_value` put V(s) + c(a, s) in the place of c, with V learned as in A2C and c
on the squared gradient. Settings of every estimator in every environment are in
`policy_gradient_tasks.py`.

    cartpole     at most 200 steps, one episode per update, two layers of 10 ReLU units; solved at a
                 mean return of 195
    pendulum     InvertedPendulum-v5 (MuJoCo), one episode per update; solved at 950
    lunarlander  LunarLander-v3, 8 environments side by side, 128 steps each per update, which a
                 state value continues; solved at 200

The mean is over 100 episodes, see `tf_relax.rl.episodes_to_solve`. What to look at in the figure:
above, the mean return of the latest 100 episodes; below, the log-variance of the gradient that the
policy's optimizer gets, over the latest 50 or so updates (lines are means over seeds, bands reach
from the lowest to the highest). Each estimator is followed along its own training: policies that
get further have longer episodes, and with them larger gradients. Curves end with the shortest run.

    python examples/policy_gradients.py --env cartpole --seeds 20 --processes 2

Every run is written to `runs_ENV.jsonl` as soon as it ends; `--draw FILE...` draws the figure from
such files without training. The first seed of every estimator plays an episode as a GIF, for which
MuJoCo needs OpenGL. Reference: Grathwohl et al. (2018), arXiv:1711.00123, section 5.3.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import common
import tf_relax
from policy_gradient_runs import POINTS, WINDOW, Run, curve, load, print_table
from policy_gradient_tasks import TASKS, Task, build

STYLES = {name: common.STYLES[name] for name in ("reinforce", "a2c", "relax", "lax")}
STYLES |= {f"{x}_value": {**STYLES[x], "linestyle": common.MIXED} for x in ("relax", "lax")}


class Job(NamedTuple):
    """One run: what a process has to know."""

    env: str
    estimator: str
    seed: int
    frames: int
    stop: bool
    jit_compile: bool
    gif: str | None


class Frames(keras.callbacks.Callback):
    """Moves a progress bar by the frames of every update."""

    def __init__(self, progress: tqdm):
        super().__init__()
        self.progress = progress
        self.seen = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        frames = int(logs["frames"])
        self.progress.update(frames - self.seen)
        self.progress.set_postfix({"return": f"{logs['return']:.1f}"}, refresh=False)
        self.seen = frames


def train(job: Job, progress: tqdm | None = None) -> Run:
    """Trains one seed from the start."""
    task = TASKS[job.env]
    start = time.perf_counter()
    keras.utils.set_random_seed(job.seed)
    trainer = build(job.env, job.estimator, job.jit_compile)
    callbacks: list[keras.callbacks.Callback] = []
    if job.stop:
        callbacks.append(tf_relax.rl.StopOnReward(task.threshold, WINDOW))
    if progress is not None:
        progress.set_description(f"{job.estimator}, seed {job.seed}")
        callbacks.append(Frames(progress))
    logs = trainer.fit(job.frames, callbacks=callbacks, seed=job.seed, verbose=0).history
    if progress is not None:
        progress.update(max(job.frames - trainer.frames, 0))  # of a run that stopped
    seconds = time.perf_counter() - start
    returns = trainer.episode_returns
    solved = tf_relax.rl.episodes_to_solve(list(returns), task.threshold, WINDOW)
    frames = None
    if solved is not None:
        (first, *_) = np.flatnonzero(np.array(logs["episodes"]) >= solved)
        frames = int(logs["frames"][first])  # of the update in which that episode ended
    gif = job.gif and record(trainer, task, job.gif, seed=job.seed)
    trainer.environments.close()
    return Run(
        env=job.env,
        estimator=job.estimator,
        seed=job.seed,
        solved_after=solved,
        solved_frames=frames,
        seconds=seconds,
        curves=thinned(logs),
        gif=gif,
    )


def thinned(logs: dict[str, list[float]]) -> dict[str, list[float | None]]:
    """Returns the curves at `POINTS` updates, NaN as `None`, which JSON can say."""
    updates = len(logs["frames"])
    kept = np.unique(np.linspace(0, updates - 1, min(updates, POINTS)).round().astype(int))
    names = ("episodes", "frames", "return", "gradient_log_variance")
    curves: dict[str, list[float | None]] = {}
    for name in names:
        values = [float(logs[name][k]) for k in kept]
        curves[name] = [value if np.isfinite(value) else None for value in values]
    return curves


def record(trainer: tf_relax.rl.PolicyGradient, task: Task, path: str, seed: int) -> str:
    """Plays an episode, most probable actions only, and has it drawn by `render_episode.py`.

    Returns:
        The path, or why there is no animation: a machine without display may have no OpenGL.
    """
    env = task.make()
    actions = []
    observation, _ = env.reset(seed=seed)
    done = False
    while not done:
        action = trainer.action(observation[np.newaxis])[0]
        actions.append(action.tolist())
        observation, _, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
    env.close()
    given = {"spec": env.spec.to_json(), "seed": seed, "actions": actions, "path": path}
    script = pathlib.Path(__file__).with_name("render_episode.py")
    drawn = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    if drawn.returncode == 0:
        return path
    lines = drawn.stderr.strip().splitlines() or [f"it ended with code {drawn.returncode}"]
    return f"no GIF, as the environment does not render here ({lines[-1]}); try MUJOCO_GL=egl"


def plot(env: str, runs: dict[str, list[Run]], path: pathlib.Path) -> None:
    """Draws the mean return above the log-variance of the gradient."""
    task = TASKS[env]
    figure, [[above], [below]] = common.figure(2, width=8, height=4)
    below.sharex(above)
    above.tick_params(labelbottom=False)
    for estimator, seeds in runs.items():
        label = estimator.upper().replace("_VALUE", ", V + c")
        for axes, name in ((above, "return"), (below, "gradient_log_variance")):
            x, low, mean, high = curve(seeds, task.axis, name)
            axes.plot(x, mean, label=label, linewidth=2, **STYLES[estimator])
            color = STYLES[estimator]["color"]
            axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    above.axhline(task.threshold, color="0.4", linewidth=1)
    above.set(title=f"{env}, {len(next(iter(runs.values())))} seeds", ylabel="return")
    below.set(xlabel=task.axis, ylabel="log-variance of the policy gradient")
    figure.legend(
        handles=above.get_lines()[:-1], loc="outside upper center", ncols=4, frameon=False
    )
    common.save(figure, path)


def start_worker(processes: int) -> None:
    """Gives a process its share of the cores, before TensorFlow takes all of them."""
    common.end_at_interrupt()
    threads = max(1, (os.cpu_count() or 1) // processes)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def run_all(jobs: list[Job], processes: int, path: pathlib.Path) -> None:
    """Runs the jobs and appends each to a file as it ends."""
    total = sum(job.frames for job in jobs)
    with (
        path.open("w", encoding="utf-8") as file,
        tqdm(total=total, unit="frame", unit_scale=True) as progress,
    ):

        def save(run: Run) -> None:
            file.write(json.dumps(dataclasses.asdict(run)) + "\n")
            file.flush()
            solved = "not solved" if run.solved_after is None else f"solved: {run.solved_after}"
            progress.write(f"{run.estimator}, seed {run.seed}: {solved}, {run.seconds:.0f} s")
            if run.gif:
                progress.write(f"{run.estimator}, seed {run.seed}: {run.gif}")

        if processes == 1:
            for job in jobs:
                save(train(job, progress))
                keras.utils.clear_session()
            return
        context = multiprocessing.get_context("spawn")
        # Says so if a process dies, which a `Pool` would wait for.
        with concurrent.futures.ProcessPoolExecutor(
            processes, context, start_worker, (processes,)
        ) as pool:
            futures = [pool.submit(train, job) for job in jobs]
            for future in concurrent.futures.as_completed(futures):
                save(future.result())
                progress.update(jobs[0].frames)


def main(argv: Sequence[str] | None = None) -> dict[str, list[Run]]:
    """Runs the command line and returns estimator -> runs."""
    parser = common.parser(__doc__, output="outputs", seeds=5)
    parser.add_argument("--env", choices=TASKS, default="cartpole")
    parser.add_argument(
        "--estimator",
        nargs="+",
        choices=STYLES,
        metavar="NAME",
        help=f"{', '.join(STYLES)} (default: all that the environment has settings for)",
    )
    parser.add_argument("--frames", type=int, help="frames per run (default: the environment's)")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--stop", action="store_true", help="stop a run once it has solved it")
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time")
    parser.add_argument("--draw", nargs="+", metavar="FILE", help="draw these results; no training")
    parser.add_argument("--no-gif", action="store_true", help="do not render episodes")
    args = parser.parse_args(argv)
    task = TASKS[args.env]
    estimators = args.estimator or list(task.settings)
    unknown = [name for name in estimators if name not in task.settings]
    if unknown:
        known = ", ".join(task.settings)
        parser.error(f"no settings for {', '.join(unknown)} on {args.env}: there are {known}")
    if missing := [file for file in args.draw or () if not pathlib.Path(file).is_file()]:
        parser.error(f"there is no file {', '.join(missing)} to draw")

    folder = args.output
    folder.mkdir(parents=True, exist_ok=True)
    files = args.draw
    if files is None:
        common.require("gymnasium", "pip install 'tf-relax[rl]'")
        path = folder / f"runs_{args.env}.jsonl"
        files = [str(path)]
        seeds = range(args.first_seed, args.first_seed + args.seeds)
        gif = {
            name: None if args.no_gif else str(folder / f"{args.env}_{name}.gif")
            for name in estimators
        }
        jobs = [
            Job(
                env=args.env,
                estimator=name,
                seed=seed,
                frames=args.frames or task.frames,
                stop=args.stop,
                jit_compile=not args.no_jit,
                gif=gif[name] if seed == seeds[0] else None,
            )
            for seed in seeds  # seed by seed: a comparison is there early, and grows
            for name in estimators
        ]
        run_all(jobs, args.processes, path)
    found = load(args.env, files)
    runs = {name: found[name] for name in estimators if name in found}
    if not runs:
        parser.error(f"no runs of {', '.join(estimators)} on {args.env} in {', '.join(files)}")
    print_table(args.env, runs)
    figure = folder / f"policy_gradients_{args.env}.png"
    plot(args.env, runs, figure)
    print(f"Figure: {figure}. Results: {', '.join(files)}")
    return runs


if __name__ == "__main__":
    common.run(main, resumes=False)
