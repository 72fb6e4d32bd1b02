"""The policy-gradient example: the command with few frames, its files, and what it counts."""

import json
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import policy_gradients as example

# Box2D's bindings (SWIG before 4.4) warn while they are imported, and crash where that is an error.
pytestmark = pytest.mark.filterwarnings(
    "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"
)


def command(folder, *arguments):
    return example.main([*arguments, "--output", str(folder), "--no-jit"])


def a_run(seed, episodes, returns):
    curves = {"episodes": episodes, "frames": [10 * x for x in episodes], "return": returns}
    curves["gradient_log_variance"] = [None, *returns[1:]]
    return example.Run("cartpole", "a2c", seed, None, None, 1.0, curves)


def not_json(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_command_prints_a_table_and_writes_figure_results_and_gif(tmp_path, capsys):
    runs = command(
        tmp_path / "new", *["--estimator", "reinforce", "relax_value", "--seeds=2", "--frames=60"]
    )
    figure = tmp_path / "new/policy_gradients_cartpole.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "new/cartpole_relax_value.gif").read_bytes().startswith(b"GIF8")
    printed = capsys.readouterr().out
    for name in ("reinforce", "relax_value"):
        (row,) = [line for line in printed.splitlines() if line.startswith(f"{name} ")]
        assert row.split()[1:] == ["0/2", "-", "-", "-", row.split()[5], "-", "-"]
        assert float(row.split()[5]) > 0
        first, second = runs[name]
        assert (first.seed, second.seed) == (0, 1)
        assert first.curves["return"] != second.curves["return"]
        assert first.curves["frames"][-1] >= 60 > first.curves["frames"][-2]

    results = tmp_path / "new/runs_cartpole.jsonl"
    lines = results.read_text().splitlines()
    assert len(lines) == 4
    for line in lines:
        json.loads(line, parse_constant=not_json)
    # Drawing them again trains nothing: neither results nor GIFs are written.
    again = command(tmp_path / "drawn", "--draw", str(results), "--estimator", "reinforce")
    assert again == {"reinforce": runs["reinforce"]}
    assert [x.name for x in (tmp_path / "drawn").iterdir()] == [figure.name]


def test_run_stops_when_solved_and_says_when(monkeypatch):
    monkeypatch.setattr(example, "WINDOW", 2)
    task = example.TASKS["cartpole"]._replace(threshold=1.0)
    monkeypatch.setitem(example.TASKS, "cartpole", task)
    job = example.Job("cartpole", "reinforce", 0, 10_000, True, False, None)
    run = example.train(job)
    assert run.solved_after == 2
    assert run.curves["episodes"] == [1.0, 2.0]
    assert run.solved_frames == run.curves["frames"][1]


def test_runs_can_be_repeated():
    job = example.Job("cartpole", "relax", 3, 40, False, False, None)
    first, second = example.train(job), example.train(job)
    assert first.curves == second.curves


def test_curve_is_that_of_all_seeds_as_far_as_they_go():
    seeds = [a_run(0, [1, 3, 5], [0.0, 2.0, 4.0]), a_run(1, [1, 9], [10.0, 18.0])]
    x, low, mean, high = example.curve(seeds, "episodes", "return")
    assert (x[0], x[-1]) == (1, 5)
    np.testing.assert_allclose(low, x - 1)
    np.testing.assert_allclose(high, x + 9)
    np.testing.assert_allclose(mean, x + 4)
    # Points that are not known are left out: here the first.
    x, *_ = example.curve(seeds[:1], "frames", "gradient_log_variance")
    assert (x[0], x[-1]) == (30, 50)


def test_table_counts_only_what_was_solved(capsys):
    seeds = [a_run(k, [1, 2], [1.0, 3.0]) for k in range(3)]
    seeds[0].solved_after, seeds[0].solved_frames = 300, 3000
    seeds[2].solved_after, seeds[2].solved_frames = 400, 5000
    example.print_table("cartpole", {"a2c": seeds})
    row = capsys.readouterr().out.splitlines()[3]
    assert row.split() == ["a2c", "2/3", "350", "71", "4000", "3.0", "300", "-", "400"]


def test_long_histories_are_thinned_out_and_keep_both_ends():
    names = ("episodes", "frames", "return", "gradient_log_variance")
    curves = example.thinned({name: [np.nan, *range(1, 5000)] for name in names})
    for name in names:
        assert len(curves[name]) == example.POINTS
        assert (curves[name][0], curves[name][-1]) == (None, 4999)


class Always:
    """Stands in for a trainer: pushes to one side."""

    def action(self, observations):
        return np.zeros(len(observations), int)


def test_episode_is_drawn_from_its_actions(tmp_path):
    path = str(tmp_path / "episode.gif")
    assert example.record(Always(), example.TASKS["cartpole"], path, seed=0) == path
    with Image.open(path) as animation:
        assert 8 <= animation.n_frames <= 11  # the cart cannot be pushed any longer
        first = np.array(animation.convert("L"))
        animation.seek(animation.n_frames - 1)
        last = np.array(animation.convert("L"))
    assert (first != last).any()


def test_machines_that_cannot_render_go_without_a_gif(tmp_path, monkeypatch):
    # An interpreter whose every script ends like that of a renderer without OpenGL.
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!{sys.executable}\nraise RuntimeError('no OpenGL')\n")
    monkeypatch.setattr(example.sys, "executable", str(interpreter))
    interpreter.chmod(0o755)
    said = example.record(
        Always(), example.TASKS["cartpole"], str(tmp_path / "episode.gif"), seed=0
    )
    assert "RuntimeError: no OpenGL" in said
    assert "MUJOCO_GL" in said
    assert not list(tmp_path.glob("*.gif"))


def test_estimators_without_settings_are_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command(tmp_path, "--env", "pendulum", "--estimator", "relax")
    assert "no settings for relax on pendulum: there are a2c, lax" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("env", "estimator"),
    [(env, name) for env, task in example.TASKS.items() for name in task.settings],
)
def test_every_row_of_the_table_builds(env, estimator):
    settings = example.TASKS[env].settings[estimator]
    trainer = example.build(env, estimator, jit_compile=False)
    assert estimator in example.STYLES
    has_value = estimator in ("a2c", "relax_value", "lax_value")
    assert (trainer.value is not None) == has_value
    assert trainer.estimator.name == estimator.split("_")[0]
    assert trainer.environments.n_envs == settings.n_envs
    assert float(trainer.optimizer.learning_rate) == pytest.approx(settings.learning_rate)
    networks = [trainer.policy, *([trainer.value] if has_value else [])]
    for network in networks:
        hidden = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
        assert tuple(layer.units for layer in hidden)[: len(settings.units)] == settings.units
    if trainer.critic is not None:
        assert trainer.critic.surrogate.units == settings.units
    trainer.environments.close()


@pytest.mark.parametrize(("env", "name"), [("pendulum", "lax"), ("lunarlander", "relax_value")])
def test_other_environments_run(env, name, tmp_path):
    runs = command(
        tmp_path, "--env", env, "--estimator", name, "--seeds=1", "--frames=10", "--no-gif"
    )
    (run,) = runs[name]
    assert run.curves["frames"][-1] >= 10
    if env == "lunarlander":  # one update; steps that only reset an environment do not count
        (frames,) = run.curves["frames"]
        assert 1000 < frames <= 8 * 128
    assert (tmp_path / f"policy_gradients_{env}.png").exists()


@pytest.mark.slow
def test_processes_give_what_one_gives(tmp_path):
    arguments = ["--estimator", "a2c", "--seeds=2", "--frames=60", "--no-gif"]
    alone = command(tmp_path, *arguments)
    together = command(tmp_path, *arguments, "--processes=2")
    for a, b in zip(alone["a2c"], together["a2c"], strict=True):
        assert a.curves["episodes"] == b.curves["episodes"]
        np.testing.assert_allclose(a.curves["return"], b.curves["return"])


@pytest.mark.slow
def test_cartpole_is_solved(tmp_path):
    runs = example.main(
        ["--estimator", "relax_value", "--seeds=1", "--stop", "--output", str(tmp_path)]
    )
    assert runs["relax_value"][0].solved_after is not None
