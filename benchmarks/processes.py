"""How a training step scales over processes, which talk over the loopback interface.

    python benchmarks/processes.py
    python benchmarks/processes.py --paper

Nonlinear autoencoder, 784 pixels, 200 Bernoulli latents, a batch of 100 for every process, one
thread each. With more work for more processes, a step takes as long as before if communication is
free: efficiency is the time of a step of one process over that of several. The estimators take
turns; figures are medians over rounds. `--paper`
runs nothing, and prints what a step adds up over the replicas of larger machines.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

BATCH = 100


def work(index: int, ports: list[int], steps: int, rounds: int, names: list[str]) -> None:
    """Runs in a process of its own: prints the seconds of a step, by estimator and round."""
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    if len(workers) > 1:
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
    import keras
    import numpy as np
    import tensorflow as tf
    from contestants import ESTIMATORS, binary_vae

    from tf_relax.losses import BernoulliNLL

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    strategy = tf.distribute.get_strategy()
    if len(workers) > 1:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    images = (np.random.default_rng(0).random((5000, 784)) < 0.13).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((images, images)).repeat()
    data = data.batch(BATCH * len(workers), drop_remainder=True).prefetch(8)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = data.with_options(options)
    found: dict[str, list[float]] = {name: [] for name in names}
    sizes = {}
    with strategy.scope():
        models = {}
        for name in names:
            keras.utils.set_random_seed(0)
            models[name] = binary_vae.build("nonlinear", images.mean(axis=0))
            models[name].compile(
                keras.optimizers.Adam(1e-3),
                BernoulliNLL(),
                estimator=ESTIMATORS[name],
                jit_compile=False,
            )
    for k in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.fit(data, steps_per_epoch=steps if k else 3, shuffle=False, verbose=0)
            if k:  # the first one compiles
                found[name].append((time.perf_counter() - start) / steps)
            sizes[name] = 4 * sum(int(np.prod(v.shape)) for v in model.trained_variables)
    if index == 0:
        print(json.dumps({"seconds": found, "bytes": sizes}))


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def together(count: int, arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Returns what so many processes that train together measure."""
    ports = ",".join(map(str, free_ports(count)))
    options = ["--steps", str(arguments.steps), "--rounds", str(arguments.rounds)]
    command = [sys.executable, __file__, *options, "--estimators", *arguments.estimators]
    workers = [
        subprocess.Popen(
            [*command, "--worker", str(index), ports], stdout=subprocess.PIPE, text=True
        )
        for index in range(count)
    ]
    said = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise RuntimeError("A worker has failed; what it said stands above.")
    return json.loads(said[0].strip().splitlines()[-1])


def paper(names: list[str], replicas: tuple[int, ...] = (8, 32, 256)) -> None:
    """Prints the megabytes that a ring sends and receives per step and replica."""
    import numpy as np
    from contestants import ESTIMATORS, binary_vae

    from tf_relax.losses import BernoulliNLL

    print(f"{'weights':>12} {'learned':>9}", *(f"{count:>5} replicas" for count in replicas))
    model = binary_vae.build("nonlinear", np.full(784, 0.13, "float32"))
    for name in names:
        model.compile("adam", BernoulliNLL(), estimator=ESTIMATORS[name])
        counts = [
            sum(int(np.prod(variable.shape)) for variable in variables)
            for variables in (model.trainable_variables, model.estimator_state.trainable_variables)
        ]
        for weights in (counts[0], 100_000_000):
            sent = [8 * (n - 1) / n * (weights + counts[1]) / 1e6 for n in replicas]
            print(f"{weights:>12} {counts[1]:>9}", *(f"{mb:>14.1f}" for mb in sent), " ", name)


def main(argv: list[str] | None = None) -> dict[str, dict[int, float]]:
    """Runs the benchmark and returns the efficiencies by estimator and number of processes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=50, help="steps per round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--estimators", nargs="+", default=["straight_through", "relax"])
    parser.add_argument("--paper", action="store_true", help="bytes alone, of 8 to 256 replicas")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.worker:
        index, ports = arguments.worker
        work(
            int(index),
            [int(port) for port in ports.split(",")],
            arguments.steps,
            arguments.rounds,
            arguments.estimators,
        )
        return {}
    if arguments.paper:
        paper(arguments.estimators)
        return {}
    medians: dict[str, dict[int, float]] = {name: {} for name in arguments.estimators}
    print(f"{'estimator':>20} processes  ms a step  examples a second  efficiency  MB a step")
    for count in arguments.processes:
        found = together(count, arguments)
        for name, seconds in found["seconds"].items():
            median = statistics.median(seconds)
            medians[name][count] = median
            first = medians[name][arguments.processes[0]]
            sent = 2 * (count - 1) / count * found["bytes"][name] / 1e6
            print(
                f"{name:>20} {count:>9} {1e3 * median:>10.2f} {count * BATCH / median:>18.0f} "
                f"{first / median:>11.2f} {sent:>10.2f}"
            )
    return {
        name: {count: times[arguments.processes[0]] / time for count, time in times.items()}
        for name, times in medians.items()
    }


if __name__ == "__main__":
    main()
