"""The benchmarks run, small; their figures are for people to read."""

import json
import pathlib
import re
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

pytestmark = pytest.mark.slow


def test_step_cost_feeds_the_race(tmp_path, capsys):
    import step_cost
    import training_race

    names = ["relax", "disarm", "concrete"]
    cost, race = tmp_path / "cost.json", tmp_path / "race.json"
    ratios = step_cost.main(
        ["--steps=10", "--rounds=1", f"--output={cost}", "--estimators", *names]
    )
    assert all(np.isfinite(ratio) and ratio > 0 for ratio in ratios.values())
    arguments = ["--dataset=digits", "--steps=20", "--checkpoints=2", "--seeds=2"]
    training_race.main([*arguments, f"--output={race}", "--estimators", *names])
    table = training_race.main([f"--table={race}", f"--cost={cost}"])
    assert set(table) == set(names)
    assert all(np.isfinite(bound) and bound < 0 for bound in table.values())
    assert "best unbiased one at equal wall-clock" in capsys.readouterr().out


def test_a_race_in_equal_time(tmp_path, capsys):
    import training_race

    names, cost, race = ["relax", "disarm"], tmp_path / "cost.json", tmp_path / "race.json"
    cost.write_text(json.dumps({"straight_through": 2.0, "relax": 4.0, "disarm": 1.0}))
    arguments = ["--dataset=digits", "--steps=40", f"--equal-time={cost}", f"--output={race}"]
    results = training_race.main(
        [*arguments, "--checkpoints=2", "--seeds=1", "--estimators", *names]
    )
    assert results["steps_of"] == {"straight_through": 40, "relax": 20, "disarm": 80}
    training_race.main([f"--table={race}", f"--cost={cost}"])
    printed = capsys.readouterr().out
    assert re.search(r"relax +yes +2 +20 .* 4.00 +0 ", printed)
    assert re.search(r"disarm +yes +2 +80 .* 1.00 +0 ", printed)


def test_the_rodeo_protocol_goes_on(tmp_path, capsys):
    import rodeo_protocol

    names = ["relax, objective, antithetic, K = 2", "rodeo, K = 2"]
    command = ["--dataset=digits", "--every=10", f"--output={tmp_path}", "--estimators", *names]
    rodeo_protocol.main([*command, "--steps=20"])
    log = tmp_path / "rodeo__K___2" / "log.csv"
    before = log.read_text()
    bounds = rodeo_protocol.main([*command, "--steps=40"])
    assert log.read_text().startswith(before)
    assert len(log.read_text().splitlines()) == 5
    assert all(-100 < bounds[name] < -20 for name in names)
    assert re.search(r"\| rodeo, K = 2 \| 40 \| .* \| -101.89 \|", capsys.readouterr().out)
    assert (tmp_path / "bounds.png").stat().st_size > 1000
    assert rodeo_protocol.main([*command, "--table"]) == bounds
    with pytest.raises(SystemExit):
        rodeo_protocol.main(["--table", f"--output={tmp_path / 'none'}"])
    assert "no runs of these estimators" in capsys.readouterr().err


def test_gradient_variance():
    import gradient_variance

    result = gradient_variance.main(
        [
            *["--dataset=digits", "--steps=100", "--surrogate-steps=20", "--draws=40", "--seeds=2"],
            *["--estimators", "relax", "disarm", "leave_one_out, K = 2", "arms, K = 3"],
        ]
    )
    for relax, loo in zip(result["relax"], result["leave_one_out, K = 2"], strict=True):
        assert relax[0] < loo[0]


def test_cheaper_pairs():
    import cheaper_pairs

    found = cheaper_pairs.main(["--dataset=digits", "--steps=20", "--draws=50"])
    assert np.isfinite(list(found.values())).all()
    assert found["antithetic pair (4)"] < found["second sample hard only (3)"]
    assert found["second sample hard only (3)"] < found["one sample (2 evaluations)"]


def test_surrogate_choices():
    import surrogate_choices

    result = surrogate_choices.main(
        [
            *["--dataset=digits", "--steps=20", "--surrogate-steps=5", "--draws=10"],
            *["--choices", "objective", "network (200, 200) alone"],
        ]
    )
    assert np.isfinite(list(result.values())).all()


def test_couplings():
    import couplings

    found = couplings.main(["--dataset=digits", "--steps=60", "--draws=100", "--counts=3"])
    assert found[3, "rotation"] < found[3, "independent"]
    assert found[3, "copula"] < found[3, "independent"]


def test_whole_models_with_every_estimator(capsys):
    import which_estimator

    which_estimator.main(
        ["--train=20", "--kinds=bits", "--seeds=1", "--estimators", "arms, K = 4", "rebar"]
    )
    printed = capsys.readouterr().out
    assert re.search(r"auto: Arms\(num_samples=3\) +\d+\.\d+ \+- 0.000", printed)
    assert re.search(r"arms, K = 4 +\d+\.\d+", printed)


def test_races_are_drawn(tmp_path):
    import race_figure

    kept = pathlib.Path(__file__).parents[2] / "benchmarks/results/race_60000.json"
    drawn = race_figure.main([str(kept), f"--output={tmp_path / 'race.png'}"])
    assert "arms, K = 3" in drawn["runs"]
    assert (tmp_path / "race.png").stat().st_size > 10_000
