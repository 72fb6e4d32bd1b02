"""Options, styles and results that the examples share."""

import json
import pathlib
import re
import signal

import numpy as np
import pytest

import common
import tf_relax

FILES = {path.name: path.read_text() for path in pathlib.Path(common.__file__).parent.glob("*.py")}
SHARING = {name: text for name, text in FILES.items() if name != "common.py"}


def test_no_example_is_longer_than_300_lines():
    assert len(FILES) > 20
    lines = {name: len(text.splitlines()) for name, text in FILES.items()}
    assert {name: count for name, count in lines.items() if count > 300} == {}


def test_every_script_with_options_has_the_common_parser_and_ends_in_one_line():
    assert [name for name, text in SHARING.items() if "ArgumentParser(" in text] == []
    scripts = {name: text for name, text in SHARING.items() if ".add_argument(" in text}
    assert len(scripts) > 12
    for part in ("common.parser(__doc__", "common.run(main"):
        assert [name for name, text in scripts.items() if part not in text] == []


def test_colours_have_one_place():
    colour = re.compile(r"""["'](#[0-9A-Fa-f]{6}|tab:\w+|C\d)["']""")
    assert {
        name: colour.findall(text) for name, text in SHARING.items() if colour.search(text)
    } == {}


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


@pytest.mark.parametrize(
    ("output", "goal"), [("outputs/x", "folder of results"), ("x.png", "where the figure goes")]
)
def test_help_says_whether_the_output_is_a_folder(output, goal):
    assert goal in common.parser("What.", output=output).format_help()


def test_a_missing_package_is_named_with_its_remedy():
    common.require("numpy", "pip install numpy")
    with pytest.raises(SystemExit, match=r"needs the package no_such_thing: pip install thing"):
        common.require("no_such_thing", "pip install thing")


def test_an_interrupt_ends_with_one_line():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="the same command goes on"):
        common.run(interrupted)
    with pytest.raises(SystemExit, match="The same command begins anew"):
        common.run(interrupted, resumes=False)


def test_a_worker_dies_at_an_interrupt():
    before = signal.getsignal(signal.SIGINT)
    try:
        common.end_at_interrupt()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


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
    common.curve(axes, [0, 1], [[1, 2], [3, 4]], "relax, K = 2", linewidth=3, linestyle="--")
    common.save(made, tmp_path / "deep" / "figure.png")
    one, two = axes.get_lines()
    assert one.get_color() == two.get_color() == common.GREEN
    assert [line.get_linewidth() for line in (one, two)] == [2, 3]
    assert two.get_linestyle() == "--"
    assert (tmp_path / "deep" / "figure.png").stat().st_size > 1000
