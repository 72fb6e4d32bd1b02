"""Table 1: runs that go on where they stopped, and the table that they print."""

import re

import numpy as np
import pytest

import binary_vae
import long_runs
import table_1

TINY = ["--no-jit", "--batch-size", "4", "--budget", str(20 / table_1.STEPS)]


@pytest.fixture
def data(tmp_path):
    """Returns a folder with 60 images of both data sets."""
    images = np.random.default_rng(0).integers(256, size=(60, 28, 28), dtype=np.uint8)
    for name in ("mnist", "omniglot"):
        np.savez(tmp_path / f"{name}.npz", x_train=images, x_test=images[:10])
    return tmp_path


def test_cells():
    assert len(table_1.CELLS) == 36
    assert table_1.matching([]) == table_1.CELLS
    assert table_1.matching(["mnist/linear?/relax"]) == [
        "mnist/linear1/relax",
        "mnist/linear2/relax",
    ]
    with pytest.raises(ValueError, match=r"No cell of table 1 matches 'mnist/deep/\*'.*linear1"):
        table_1.matching(["mnist/deep/*"])


def test_cells_are_trained_once(data, tmp_path, capsys):
    cells = ["omniglot/linear1/relax", "mnist/linear1/antithetic"]
    command = ["--reproduce", *cells, *TINY, "--data", str(data), "--output", str(tmp_path)]
    first = binary_vae.main(command)
    assert list(first) == sorted(cells)
    assert all(-1000 < bound < -100 for bound in first.values())
    printed = capsys.readouterr().out
    assert "20 steps" in printed
    assert re.search(r"\| omniglot/linear1 \| +\| +\| +\| +\| -\d+\.\d\d \| +\|", printed)
    assert "nonlinear" not in printed
    # A run that is complete is read, not repeated.
    log = tmp_path / "table_1" / "20_steps" / cells[0] / "log.csv"
    text = log.read_text()
    assert binary_vae.main(command) == first
    assert log.read_text() == text
    # Nor is it taken for one of another seed.
    with pytest.raises(ValueError, match=r"holds a run of .*'seed': 0.*'seed': 1.*--output"):
        binary_vae.main([*command, "--seed", "1"])


def test_budget_of_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"budget of 0\.0 is less than one of 2,000,000 steps"):
        binary_vae.main(["--reproduce", "--budget", "0", "--output", str(tmp_path)])


# Keras's CSVLogger closes its file at the end of training, which this run does not reach.
@pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_goes_on(data, tmp_path, monkeypatch):
    """Killed in its fourth epoch, it trains the rest and no more, its clock going on."""
    command = ["--reproduce", "mnist/linear1/rebar", *TINY]
    command += ["--data", str(data), "--output", str(tmp_path)]
    begin, epochs = long_runs.Duration.on_epoch_begin, []

    def fails(self, epoch, logs=None):
        epochs.append(epoch)
        if len(epochs) == 4:
            raise KeyboardInterrupt
        begin(self, epoch, logs)

    monkeypatch.setattr(long_runs.Duration, "on_epoch_begin", fails)
    with pytest.raises(KeyboardInterrupt):
        binary_vae.main(command)
    log = tmp_path / "table_1" / "20_steps" / "mnist/linear1/rebar" / "log.csv"
    before = long_runs.read(log, every=1)
    assert [each.step for each in before] == [1, 2, 3]
    binary_vae.main(command)
    assert epochs == [0, 1, 2, 3, *range(3, 20)]
    after = long_runs.read(log, every=1)
    assert [each.step for each in after] == list(range(1, 21))
    assert after[:3] == before
    assert np.all(np.diff([each.seconds for each in after]) > 0)
