"""What importing the package takes, and that it warns of nothing."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import import_time

# Imports nothing before what is timed: what these tests show does not depend on it.
CHILD = import_time.CHILD.replace("import keras, tensorflow_probability as tfp\n", "").replace(
    "tfp.distributions.Normal\n", ""
)


@pytest.fixture
def light(monkeypatch, tmp_path):
    """Packages that take no TensorFlow, importable in the processes that are started."""
    assert "keras" not in CHILD
    assert "tfp" not in CHILD
    monkeypatch.setattr(import_time, "CHILD", CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_the_package_adds_less_than_half_a_second_and_warns_of_nothing(capsys):
    assert 0 < import_time.main(["--processes=1"]) < 0.5
    assert "median of 1 processes" in capsys.readouterr().out


def test_work_counts(light, capsys):
    busy = "import time\nend = time.process_time() + .3\nwhile time.process_time() < end: pass\n"
    (light / "works.py").write_text(busy)
    assert 0.3 <= import_time.main(["--package=works", "--processes=3"]) < 0.45
    assert "median of 3 processes" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"limit is 0\.2 s"):
        import_time.main(["--package=works", "--processes=1", "--limit=0.2"])


def test_bytecode_is_written_before(light, monkeypatch):
    monkeypatch.syspath_prepend(light)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    (light / "folder").mkdir()
    (light / "folder" / "__init__.py").write_text("1")
    import_time.compiled("folder")
    assert list(light.glob("folder/__pycache__/__init__.*.pyc"))


def test_a_warning_is_an_error(light):
    (light / "warns.py").write_text("import warnings\nwarnings.warn('old', DeprecationWarning)\n")
    with pytest.raises(SystemExit, match="warns failed, or warned: DeprecationWarning: old"):
        import_time.main(["--package=warns"])


def test_a_package_that_is_missing(light):
    with pytest.raises(SystemExit, match="No module named 'missing'"):
        import_time.main(["--package=missing"])


def test_no_process_is_refused(capsys):
    with pytest.raises(SystemExit):
        import_time.main(["--processes=0"])
    assert "--processes takes 1 or more" in capsys.readouterr().err
