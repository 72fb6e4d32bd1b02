"""Training bound against wall-clock: the nonlinear MNIST autoencoder with every estimator.

    python benchmarks/training_race.py --data PATH --seeds 3 --steps 10000 --output race.json
    python benchmarks/step_cost.py --output cost.json
    python benchmarks/training_race.py --table race.json --cost cost.json --markdown

    python benchmarks/training_race.py --steps 30000 --equal-time cost.json --output equal.json

    python benchmarks/training_race.py --model categories --steps 20000 --output categories.json

200 Bernoulli latents (or 20 choices among ten categories), two tanh layers of 200 units on either
side, batches of 100 binarised dynamically, Adam at 1e-3 for everybody. The bound is measured on the
same 5,000 training images for all, ten times along the way; runs that the output file has already
are not run again. Runs of estimators interleave badly with whatever else a machine does, so the
wall-clock is steps times the median cost of a step, which `step_cost.py` measures with all
contestants taking turns. With `--equal-time` everybody trains for as long as `--steps` steps of
straight_through take.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from contestants import CONTESTANTS, batches, evaluations, load_images, model_for
from tqdm import tqdm

DEFAULT = [
    "reinforce, moving average",
    "nvil",
    "leave_one_out, K = 2",
    "muprop",
    "dlax",
    "rebar",
    "relax",
    "disarm",
    "arms, K = 3",
    "double_cv, K = 2",
    "rodeo, K = 2",
    "vimco, K = 3",
    "concrete",
    "straight_through",
    "gumbel_straight_through",
    "reinmax",
]


def race(
    kind: str, name: str, images: np.ndarray, seed: int, steps: int, checkpoints: int
) -> list[float]:
    """Trains one model and returns its training bound (ELBO, nats) at the checkpoints."""
    model = model_for(CONTESTANTS[kind][name], images.mean(axis=0), seed, kind)
    held = (np.random.default_rng(0).random(images[:5000].shape) < images[:5000]).astype("float32")
    data = batches(images, seed)
    bounds = []
    for _ in range(checkpoints):
        model.fit(data, steps_per_epoch=steps // checkpoints, shuffle=False, verbose=0)
        bounds.append(-float(model.evaluate(held, held, batch_size=500, verbose=0)))
    return bounds


def steps_in_time(cost: dict[str, float], steps: int, checkpoints: int) -> dict[str, int]:
    """Returns how many steps each makes while straight_through makes so many.

    Args:
        cost: milliseconds a step.
        steps: of straight_through.
        checkpoints: into which the steps are divided.
    """
    own = {name: cost["straight_through"] * steps / each for name, each in cost.items()}
    unit = 10 * checkpoints  # whole calls of ten steps
    return {name: round(each / unit) * unit for name, each in own.items()}


def at_time(bounds: list[float], steps: int, milliseconds: float, seconds: float) -> float:
    """Returns the bound after a time, interpolated between checkpoints."""
    every = steps / len(bounds) * milliseconds / 1e3
    times = every * (1 + np.arange(len(bounds)))
    return float(np.interp(seconds, times, bounds))


def table(results: dict, cost: dict[str, float], markdown: bool) -> dict[str, float]:
    """Prints bounds after all steps and at equal wall-clock; returns the latter."""
    runs = {name: seeds for name, seeds in results["runs"].items() if seeds}
    contestants = CONTESTANTS[results.get("model", "nonlinear")]
    steps = {name: results.get("steps_of", {}).get(name, results["steps"]) for name in runs}
    seconds = min(cost[name] * steps[name] for name in runs) / 1e3
    rows = []
    for name, seeds in runs.items():
        final = [bounds[-1] for bounds in seeds.values()]
        equal = [at_time(bounds, steps[name], cost[name], seconds) for bounds in seeds.values()]
        rows.append((name, np.mean(final), np.ptp(final) / 2, cost[name], np.mean(equal)))
    rows.sort(key=lambda row: -row[4])
    head = ["estimator", "unbiased", "evaluations", "steps", "bound", "+-", "ms a step", "seconds"]
    head.append(f"bound at {seconds:.0f} s")
    cells = [
        [
            name,
            "yes" if contestants[name].unbiased else "no",
            str(evaluations(contestants[name])),
            f"{steps[name]:,}",
            f"{bound:.2f}",
            f"{spread:.2f}",
            f"{ms:.2f}",
            f"{ms * steps[name] / 1e3:.0f}",
            f"{equal:.2f}",
        ]
        for name, bound, spread, ms, equal in rows
    ]
    widths = [max(len(row[k]) for row in [head, *cells]) for k in range(len(head))]
    for number, row in enumerate([head, *cells]):
        padded = [
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print(("| " + " | ".join(padded) + " |") if markdown else "  ".join(padded))
        if markdown and number == 0:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
    equal = {name: value for name, *_, value in rows}
    unbiased = {k: v for k, v in equal.items() if contestants[k].unbiased and "vimco" not in k}
    best = max(unbiased, key=unbiased.__getitem__)
    print(f"\nbest unbiased one at equal wall-clock: {best}", end="")
    print(
        f", {unbiased[best] - equal['relax']:.2f} nats ahead of relax" if "relax" in equal else ""
    )
    return equal


def main(argv: list[str] | None = None) -> dict:
    """Runs the races, or prints the table of races that were run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data", help="local copy of the data")
    parser.add_argument("--model", choices=CONTESTANTS, default="nonlinear", help="what it draws")
    parser.add_argument("--estimators", nargs="+", help="all that are of interest if not given")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--equal-time", type=Path, help="milliseconds a step, from step_cost.py")
    parser.add_argument("--output", type=Path, default=Path("race.json"))
    parser.add_argument("--table", type=Path, nargs="+", help="print the table of these files")
    parser.add_argument("--cost", type=Path, help="milliseconds a step, from step_cost.py")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args(argv)

    if arguments.table:
        merged: dict = {"steps": 0, "runs": {}}
        for path in arguments.table:
            part = json.loads(path.read_text())
            merged |= {**part, "runs": {**merged["runs"], **part["runs"]}}
        return table(merged, json.loads(arguments.cost.read_text()), arguments.markdown)

    contestants = CONTESTANTS[arguments.model]
    names = arguments.estimators or (DEFAULT if arguments.model == "nonlinear" else contestants)
    unknown = set(names) - set(contestants)
    if unknown:
        parser.error(f"there are no estimators {sorted(unknown)} in {list(contestants)}")
    images = load_images(arguments.dataset, arguments.data)
    results = {"model": arguments.model, "steps": arguments.steps, "runs": {}}
    if arguments.equal_time:
        cost = json.loads(arguments.equal_time.read_text())
        if missing := set(names) - set(cost):
            parser.error(f"{arguments.equal_time} has no cost of {sorted(missing)}")
        results["steps_of"] = steps_in_time(cost, arguments.steps, arguments.checkpoints)
    if arguments.output.exists():
        earlier = json.loads(arguments.output.read_text())
        same = {"model": "nonlinear", **earlier, "runs": {}} == results
        results = earlier if same else results
    runs: dict[str, dict[str, list[float]]] = results["runs"]
    for name in names:
        runs.setdefault(name, {})
    jobs = [(s, n) for s in range(arguments.seeds) for n in names if str(s) not in runs[n]]
    for seed, name in tqdm(jobs, desc="races"):
        steps = results.get("steps_of", {}).get(name, arguments.steps)
        runs[name][str(seed)] = race(
            arguments.model, name, images, seed, steps, arguments.checkpoints
        )
        tqdm.write(f"{name}, seed {seed}: {runs[name][str(seed)][-1]:.2f} nats")
        arguments.output.write_text(json.dumps(results))
    return results


if __name__ == "__main__":
    main()
