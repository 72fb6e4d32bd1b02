"""How long `import tf_relax` takes in a process that has imported what it rests on.

    python benchmarks/import_time.py

Each of several fresh processes imports Keras and TensorFlow Probability, and then, with warnings as
errors, `tf_relax`. The figure is the median of the seconds that the processor worked on that last
import; by the clock it is the same, unless other processes have the processor as well. At `--limit`
seconds or more the command fails.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import json
import statistics
import subprocess
import sys

# TensorFlow Probability loads its parts when they are first asked for: here, not in what is timed.
CHILD = """
import json, sys, time, warnings
import keras, tensorflow_probability as tfp
tfp.distributions.Normal
warnings.simplefilter("error")
clock, processor = time.perf_counter(), time.process_time()
import {package}
print(json.dumps([time.process_time() - processor, time.perf_counter() - clock]))
"""


def seconds(package: str) -> tuple[float, float]:
    """Returns what an import takes in a process of its own, of the processor and by the clock.

    Raises:
        SystemExit: if the import fails or warns, with what it said last.
    """
    command = [sys.executable, "-c", CHILD.format(package=package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no message"]
        raise SystemExit(f"import {package} failed, or warned: {said[-1]}")
    processor, clock = json.loads(done.stdout.splitlines()[-1])
    return processor, clock


def compiled(package: str) -> None:
    """Writes the bytecode of a package, as its first import would: that is not timed."""
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or []:
        compileall.compile_dir(folder, quiet=2)


def main(argv: list[str] | None = None) -> float:
    """Prints and returns the median."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=5, help="fresh processes")
    parser.add_argument("--limit", type=float, default=0.5, help="seconds that are too many")
    parser.add_argument("--package", default="tf_relax", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.processes < 1:
        parser.error("--processes takes 1 or more")
    compiled(arguments.package)
    found = [seconds(arguments.package) for _ in range(arguments.processes)]
    processor, clock = (statistics.median(column) for column in zip(*found, strict=True))
    print(
        f"import {arguments.package} adds {processor:.2f} s of the processor ({clock:.2f} s by the "
        f"clock) to keras and tensorflow_probability; median of {len(found)} processes"
    )
    if processor >= arguments.limit:
        raise SystemExit(f"That is too long: the limit is {arguments.limit} s.")
    return processor


if __name__ == "__main__":
    main()
