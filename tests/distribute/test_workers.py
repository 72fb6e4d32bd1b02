"""Processes that train together over the loopback interface, as machines of a cluster do."""

import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import processes

from tests.distribute.worker import trained

ROOT = pathlib.Path(__file__).parents[2]


def started(count, module, folder, *arguments):
    """So many processes that know of one another."""
    ports = ",".join(map(str, processes.free_ports(count)))
    command = [sys.executable, "-m", f"tests.distribute.{module}"]
    return [
        subprocess.Popen(
            [*command, str(index), ports, folder, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(count)
    ]


def together(count, folder, module="worker", *arguments):
    """What every one of so many processes wrote down."""
    workers = started(count, module, folder, *arguments)
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


@pytest.mark.slow
def test_a_worker_is_killed_and_the_job_goes_on(tmp_path):
    """The other one stops with an error, and started again they end with the same weights."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    expected, _ = together(2, whole, "resumable_worker", "30")
    workers = started(2, "resumable_worker", killed, "30")
    while not (killed / "training-1").exists():
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.01)
    time.sleep(0.4)
    workers[1].kill()
    start = time.monotonic()
    said, _ = workers[0].communicate(timeout=120)
    seconds = time.monotonic() - start
    workers[1].communicate()
    assert workers[0].returncode > 0
    assert "task:1" in said
    print(f"the other worker stopped after {seconds:.0f} s")
    backups = sorted((killed / "backup").glob("epoch*"))
    assert backups[-1].name < "epoch-000030"
    for found in together(2, killed, "resumable_worker", "30"):
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, err_msg=key)
