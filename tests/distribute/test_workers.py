"""Processes that train together over the loopback interface, as machines of a cluster do."""

import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.distribute.worker import trained

ROOT = pathlib.Path(__file__).parents[2]


def free_ports(count):
    """Ports that nobody listens on, of sockets that were open at the same time."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def together(count, folder):
    """What every one of so many processes wrote down."""
    ports = ",".join(map(str, free_ports(count)))
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.distribute.worker", str(index), ports, folder],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(count)
    ]
    try:
        said = [worker.communicate(timeout=300)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for worker, output in zip(workers, said, strict=True):
        assert worker.returncode == 0, output[-3000:]
    return [dict(np.load(folder / f"{index}.npz")) for index in range(count)]


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_train_as_one(count, tmp_path, float64):
    """51 steps; the last batch of every epoch is uneven."""
    _, alone = trained("exact", tf.distribute.get_strategy())
    first, *others = together(count, tmp_path)
    for key, value in alone.items():
        np.testing.assert_allclose(first[key], value, atol=1e-11, rtol=0, err_msg=key)
    for other in others:  # all have the same, what they draw for one example included
        assert other.keys() == first.keys()
        for key, value in other.items():
            np.testing.assert_allclose(value, first[key], atol=1e-12, err_msg=key)
    assert np.ptp(alone["exact_loss"]) > 0.05
    assert np.isfinite(first["relax_loss"]).all()
    parts = np.split(first["predicted"].ravel(), count)
    assert (parts[0] != parts[1]).any()  # each process draws noise of its own
