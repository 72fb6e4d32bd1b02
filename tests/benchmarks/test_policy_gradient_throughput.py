"""The throughput benchmark, small, against a stand-in for the competitor."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import policy_gradient_throughput as benchmark

# Pretends to make 1000 frames per second, and 500 with its default number of threads.
STUB = """
import sys
threads = int(sys.argv[3])
print(f"stub with {threads}", flush=True)
for line in sys.stdin:
    print(int(line) / (1000 if threads else 500), flush=True)
"""


def test_ratio_is_to_the_faster_competitor(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "WORKER", STUB)
    monkeypatch.setattr(benchmark, "ours", lambda estimator, jit: lambda frames: frames / 3000)
    assert benchmark.main(["--frames=200", "--rounds=3"]) == pytest.approx(3)
    printed = capsys.readouterr().out
    assert "500 (500 to 500) frames per second" in printed
    rows = [line.split() for line in printed.splitlines() if line.startswith("ratio")]
    assert [row[5] for row in rows] == ["6.00", "3.00"]


def test_ours_trains_for_so_many_frames(monkeypatch):
    trained = []
    fit = benchmark.tf_relax.rl.PolicyGradient.fit

    def spy(trainer, frames, **options):
        trained.append(trainer)
        return fit(trainer, frames, **options)

    monkeypatch.setattr(benchmark.tf_relax.rl.PolicyGradient, "fit", spy)
    seconds = benchmark.ours("a2c", jit_compile=False)
    before = trained[0].frames
    assert seconds(80) > 0
    assert trained[0].frames >= before + 80
    assert trained[0].environments.n_envs == 8


def test_competitor_that_does_not_run_is_an_error(monkeypatch):
    monkeypatch.setattr(benchmark, "WORKER", "raise SystemExit('no such library')")
    with pytest.raises(RuntimeError, match="could not run Stable-Baselines3's A2C"):
        benchmark.main(["--frames=40", "--rounds=1"])
