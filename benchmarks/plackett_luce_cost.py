"""What Plackett-Luce's coupled derivative costs as the number of items grows, in time and memory.

    python benchmarks/plackett_luce_cost.py

Draws z, sorts it and computes ``(dz/da - dz~/da)^T h``, compiled with XLA, for 100 to 10,000 items.
The batch shrinks as the items grow, so that every run holds the same million numbers and no fixed
cost hides the growth: from 100 to 10,000 items n log n grows 200 times, n^2 10,000 times. The sizes
take turns, and the ratio is the median over the rounds, so that a busy machine disturbs them alike.

Memory is read off the program that XLA compiles: the bytes per row of everything that its main
computation writes (an upper bound on what it holds, since buffers are used again), and of the
largest array anywhere in it, which is where an n x n matrix would show.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tf_relax.relaxations import PlackettLuce

_BYTES = {"f64": 8, "s64": 8, "u64": 8, "f32": 4, "s32": 4, "u32": 4, "pred": 1}


def coupled_derivative() -> Callable[..., tf.Tensor]:
    """Returns a function of logits, what comes from above and a seed."""
    relaxation = PlackettLuce()

    def derivative(a: tf.Tensor, h: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        u = tf.random.stateless_uniform(tf.shape(a), seed, alg="philox") + 2.0**-24
        draw = relaxation.sample(a, -tf.math.log(-tf.math.log(u)))
        return relaxation.delta_vjp(a, draw, h)

    return tf.function(derivative, jit_compile=True, autograph=False)


def memory(function: Callable[..., tf.Tensor], inputs: tuple[tf.Tensor, ...]) -> tuple[int, int]:
    """Returns the bytes of all that the compiled program writes and of its largest array."""
    program = function.experimental_get_compiler_ir(*inputs)(stage="optimized_hlo")
    entry = re.search(r"^ENTRY .*?^}", program, re.DOTALL | re.MULTILINE).group()
    written = 0
    for line in entry.splitlines()[1:]:
        _, _, rest = line.partition(" = ")
        # What comes before the operation's name is the type of its result.
        types = re.match(r"\s*(\(.*?\)\s|\S+)", rest)
        if types and not re.search(r" (parameter|bitcast|get-tuple-element|tuple)\(", rest):
            written += sum(arrays(types.group()))
    return written, max(arrays(program))


def arrays(text: str) -> list[int]:
    """Returns the bytes of all arrays whose types are named in a piece of an XLA program."""
    found = re.findall(r"\b(f64|s64|u64|f32|s32|u32|pred)\[([\d,]*)\]", text)
    sizes = [(kind, [int(size) for size in shape.split(",") if size]) for kind, shape in found]
    return [_BYTES[kind] * math.prod(shape) for kind, shape in sizes]


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the benchmark and returns the ratios of the largest size to the smallest."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--numbers", type=int, default=1_000_000, help="rows times items")
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args(argv)

    rng = np.random.default_rng(0)
    derivative = coupled_derivative()
    inputs = {}
    for items in arguments.items:
        rows = max(1, arguments.numbers // items)
        a, h = (tf.constant(rng.normal(size=(rows, items)), tf.float32) for _ in range(2))
        inputs[items] = (a, h, tf.constant([1, 2]))

    def seconds(items: int) -> float:
        start = time.perf_counter()
        derivative(*inputs[items]).numpy()
        return (time.perf_counter() - start) / len(inputs[items][0])

    for items in tqdm(inputs, desc="compiling"):
        seconds(items)
    times: dict[int, list[float]] = {items: [] for items in inputs}
    for _ in tqdm(range(arguments.rounds), desc="rounds"):
        for items in inputs:
            times[items].append(seconds(items))

    written, largest = {}, {}
    print(
        f"{'items':>7} {'rows':>6} {'us a row':>10} {'kB a row':>9} {'largest array, kB a row':>24}"
    )
    for items, values in times.items():
        rows = len(inputs[items][0])
        written[items], largest[items] = (b / rows for b in memory(derivative, inputs[items]))
        row = f"{1e6 * statistics.median(values):10.1f} {written[items] / 1e3:9.1f}"
        print(f"{items:>7} {rows:>6} {row} {largest[items] / 1e3:24.1f}")
    few, many = min(inputs), max(inputs)
    pairs = zip(times[many], times[few], strict=True)
    ratios = {
        "time": statistics.median(a / b for a, b in pairs),
        "written": written[many] / written[few],
        "largest array": largest[many] / largest[few],
    }
    growth = many / few * math.log(many) / math.log(few)
    print(f"from {few} to {many} items, per row; n grows {many / few:g} times, n log n {growth:g}")
    for label, value in ratios.items():
        print(f"{label:>14}: {value:.1f} times")
    return ratios


if __name__ == "__main__":
    main()
