"""What a training step costs: every estimator, loops written by hand, and the floor below them.

    python benchmarks/step_cost.py
    python benchmarks/step_cost.py --batches 100 512 --memory --json cost.json \
        --estimators straight_through relax "relax, objective, antithetic, K = 2" "arms, K = 4"

Nonlinear autoencoder, 784 pixels, 200 Bernoulli latents, all steps compiled with XLA and run by
`fit`, ten to an execution. The contestants take turns in one process, and the ratios are medians
over the rounds, so that a busy machine disturbs all of them alike. "By hand" are the loops of
`by_hand.py`; the floor of an estimator is its matrix products alone; "plain nested tapes" is RELAX
as it is usually written (`plain_relax.py`). `--memory` trains each contestant in a process of its
own and reports what that held at most.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from by_hand import STEPS, ByHand, Floor
from contestants import ESTIMATORS, evaluations, model_for
from plain_relax import PlainRelax
from tqdm import tqdm

from tf_relax.estimators import Estimator, Rebar, Relax

PLAIN = "plain nested tapes"
Run = Callable[[tf.data.Dataset, int], None]


class Fit:
    """A model that `fit` trains."""

    def __init__(self, model: keras.Model):
        self._model = model

    def run(self, data: tf.data.Dataset, steps: int) -> None:
        """Trains for some steps."""
        self._model.fit(data, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)


def images() -> np.ndarray:
    """Returns as many pixels as MNIST has, and as dark."""
    return (np.random.default_rng(0).random((5000, 784)) < 0.13).astype("float32")


def endless(x: np.ndarray, batch: int) -> tf.data.Dataset:
    """Returns batches of inputs that are their own targets."""
    data = tf.data.Dataset.from_tensor_slices((x, x)).repeat()
    options = tf.data.Options()
    # Its thread sleeps for 10, 20, 40, ... ms, and the end of an iterator waits for it to wake up:
    # times would be 10, 30, 70, ... ms, whatever was computed.
    options.autotune.enabled = False
    return data.batch(batch, drop_remainder=True).prefetch(20).with_options(options)


def plain_relax(mean_image: np.ndarray) -> Fit:
    """Returns RELAX with nested tapes around everything."""
    keras.utils.set_random_seed(0)
    plain = PlainRelax(mean_image)
    plain.compile(keras.optimizers.Adam(1e-3), jit_compile=True, steps_per_execution=10)
    return Fit(plain)


def floor_of(estimator: Estimator, pixels: int, batch: int) -> Floor:
    """Returns the matrix products of an estimator: hard samples train the decoder."""
    total = evaluations(estimator)
    relaxed = estimator.num_samples if isinstance(estimator, Relax | Rebar) else 0
    return Floor(pixels, batch, total - relaxed, relaxed)


def contestants(mean_image: np.ndarray, names: list[str], batch: int) -> dict[str, Run]:
    """Returns what takes turns, by name."""
    runs: dict[str, Run] = {}
    for name in names:
        runs[name] = Fit(model_for(ESTIMATORS[name], mean_image, seed=0)).run
        if name in STEPS:
            runs[f"{name}, by hand"] = ByHand(name, mean_image).run
            floor = floor_of(ESTIMATORS[name], len(mean_image), batch)
            runs[f"{name}, floor"] = floor.run
    if "relax" in names:
        runs[PLAIN] = plain_relax(mean_image).run
    return runs


def timed(names: list[str], batch: int, steps: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Returns, per contestant, seconds to compile and milliseconds a step in every round."""
    x = images()
    data = endless(x, batch)
    runs = contestants(x.mean(axis=0), names, batch)

    def seconds(run: Run, count: int) -> float:
        start = time.perf_counter()
        run(data, count)
        return time.perf_counter() - start

    result = {}
    for name, run in tqdm(runs.items(), desc=f"batch {batch}, compiling"):
        result[name] = {"compiling": seconds(run, 10), "milliseconds": []}
    for _ in tqdm(range(rounds), desc=f"batch {batch}, rounds"):
        for name, run in runs.items():
            result[name]["milliseconds"].append(1e3 * seconds(run, steps) / steps)
    return result


def ratio(times: dict[str, dict[str, Any]], name: str, reference: str) -> list[float]:
    """Returns least, median and largest ratio of two contestants over the rounds."""
    pairs = zip(times[name]["milliseconds"], times[reference]["milliseconds"], strict=True)
    ratios = sorted(a / b for a, b in pairs)
    return [ratios[0], statistics.median(ratios), ratios[-1]]


def ratios_of(times: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """Returns the ratios that matter."""
    result = {}
    for name in times:
        if name in ESTIMATORS and name != "straight_through":
            result[f"{name} / straight_through"] = ratio(times, name, "straight_through")
    for name in STEPS:
        if name in times:
            result[f"{name}: fit / by hand"] = ratio(times, name, f"{name}, by hand")
            result[f"{name}: fit / floor"] = ratio(times, name, f"{name}, floor")
    if PLAIN in times:
        result["relax / plain nested tapes"] = ratio(times, "relax", PLAIN)
    return result


def megabytes_alone(name: str, batch: int) -> float:
    """Returns the largest resident memory of a process that trains one contestant."""
    command = [sys.executable, __file__, "--alone", name, "--batches", str(batch)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.split()[-1])


def alone(name: str, batch: int) -> None:
    """Trains one contestant and prints what the process held at most, in megabytes."""
    x = images()
    Fit(model_for(ESTIMATORS[name], x.mean(axis=0), seed=0)).run(endless(x, batch), 50)
    # Not `ru_maxrss`, which begins with what the parent held.
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    print(int(kilobytes) / 1024)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the benchmark and returns the median ratios at the first batch size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=200, help="steps per round")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--batches", type=int, nargs="+", default=[100], help="batch sizes")
    parser.add_argument("--output", type=Path, help="write the milliseconds a step as JSON")
    parser.add_argument("--json", type=Path, help="write all that was measured")
    parser.add_argument("--memory", action="store_true", help="also peak memory, one by one")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=list(ESTIMATORS))
    arguments = parser.parse_args(argv)
    if arguments.alone:
        alone(arguments.alone, arguments.batches[0])
        return {}

    names = list(dict.fromkeys([*arguments.estimators, "straight_through", "relax"]))
    everything: dict[int, Any] = {}
    for batch in arguments.batches:
        times = timed(names, batch, arguments.steps, arguments.rounds)
        print(
            f"\nbatch {batch}: milliseconds a step, median (least to largest); seconds to compile"
        )
        for name, each in times.items():
            values = sorted(each["milliseconds"])
            middle = statistics.median(values)
            print(
                f"{name:>48}: {middle:7.2f} ({values[0]:.2f} to {values[-1]:.2f}); "
                f"{each['compiling']:.1f}"
            )
        ratios = ratios_of(times)
        for label, (least, middle, largest) in ratios.items():
            print(f"{label:>58}: {middle:.2f} ({least:.2f} to {largest:.2f})")
        if arguments.memory:
            for name in names:
                times[name]["megabytes"] = megabytes_alone(name, batch)
                print(f"{name:>48}: {times[name]['megabytes']:7.0f} MB at most", flush=True)
        everything[batch] = {"contestants": times, "ratios": ratios}
    first = everything[arguments.batches[0]]
    if arguments.output:
        medians = {
            name: statistics.median(each["milliseconds"])
            for name, each in first["contestants"].items()
        }
        arguments.output.write_text(json.dumps(medians))
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1))
    return {label: middle for label, (_, middle, _) in first["ratios"].items()}


if __name__ == "__main__":
    main()
