"""Options, styles and results that the examples share."""

import json

import numpy as np
import pytest

import common
import tf_relax


def test_every_estimator_has_a_style_of_its_own():
    styles = {name: tuple(look.values()) for name, look in common.STYLES.items()}
    alike = {"relax", "lax"} | {"rebar", "a2c"}  # never in one figure
    seen = [styles[name] for name in styles.keys() - alike]
    assert len(seen) == len(set(seen))
    assert not set(seen) & {styles[name] for name in alike}
    left_out = {"auto", "measure_valued", "reparameterization", "rejection", "vimco"}
    assert set(tf_relax.estimators.names()) - left_out <= styles.keys()


def test_relax_is_green_with_any_options():
    for name in ("relax", "relax, K = 2", "relax(num_samples=2)"):
        assert common.style(name)["color"] == common.GREEN
    assert common.style("l1") == common.BASELINE


def test_parser_has_the_options_that_it_was_asked_for(tmp_path, capsys):
    arguments = common.parser("What.", output="outputs/x", seeds=3).parse_args([])
    assert str(arguments.output) == "outputs/x"
    assert arguments.seeds == 3
    assert arguments.no_jit is False
    for wrong in ("0", "many"):
        with pytest.raises(SystemExit):
            common.parser("What.", seeds=3).parse_args(["--seeds", wrong])
        assert f"must be an integer of 1 or more, not {wrong}" in capsys.readouterr().err
    assert vars(common.parser("What.", jit=False).parse_args([])) == {}


def test_a_missing_package_is_named_with_its_remedy():
    common.require("numpy", "pip install numpy")
    with pytest.raises(SystemExit, match=r"needs the package no_such_thing: pip install thing"):
        common.require("no_such_thing", "pip install thing")


def test_an_interrupt_ends_with_one_line():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="the same command goes on"):
        common.run(interrupted)


def test_results_are_computed_once(tmp_path):
    path, computed = tmp_path / "deep" / "results.json", []

    def compute():
        computed.append(len(computed))
        return [0.5, computed[-1]]

    for _ in range(2):
        results = common.Results(path, {"steps": 3, "rates": (1, 2)})
        assert results.get("relax", 0, compute) == [0.5, 0]
        assert results.get("relax", 1, compute) == [0.5, 1]
    assert computed == [0, 1]
    assert json.loads(path.read_text())["runs"]["relax"]["1"] == [0.5, 1]
    with pytest.raises(SystemExit, match=r"other settings: {'steps': 3}.*--output"):
        common.Results(path, {"steps": 4, "rates": [1, 2]})


def test_mean_and_error():
    mean, error = common.mean_and_error([[1.0, 2.0], [3.0, 2.0]])
    np.testing.assert_allclose(mean, [2, 2])
    np.testing.assert_allclose(error, [1, 0])
    np.testing.assert_array_equal(common.mean_and_error([[4.0]])[1], [0])


def test_a_figure_is_drawn_and_saved(tmp_path):
    made, [[axes, _]] = common.figure(columns=2)
    common.curve(axes, [0, 1], [[1, 2], [3, 4]], "relax")
    common.save(made, tmp_path / "deep" / "figure.png")
    assert axes.get_lines()[0].get_color() == common.GREEN
    assert (tmp_path / "deep" / "figure.png").stat().st_size > 1000
