"""Environments in processes: what reaches them, and what happens where one is gone."""

import os
import subprocess
import sys

import gymnasium
import pytest

from tests.rl.envs import Counter, trainer

INTERRUPTED = """
import os, signal, sys, threading, time
import gymnasium
from tests.rl.envs import Counter, trainer

def vector():
    return gymnasium.vector.AsyncVectorEnv([lambda: Counter((4,))] * 2)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    given = vector() if sys.argv[1] == "given" else vector
    made = trainer(given, policy_env=Counter(), n_steps=8)
    made.fit(16, seed=0, verbose=0)
    # As Ctrl-C in a terminal: the processes get it, too.
    stop = lambda: (time.sleep(0.5), os.killpg(os.getpgrp(), signal.SIGINT))
    threading.Thread(target=stop, daemon=True).start()
    try:
        made.fit(10_000_000, verbose=0)
    except (KeyboardInterrupt, RuntimeError) as error:
        print("interrupted", type(error).__name__, flush=True)
    frames = made.frames
    try:
        made.fit(32, verbose=0)
        print("went on", made.frames > frames, flush=True)
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("given", ["function", "given"])
def test_ctrl_c_reaches_processes(given, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, str(script), given],
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "interrupted" in done.stdout, done.stderr
    if given == "function":
        assert "went on True" in done.stdout
    else:
        assert "runs in processes that have ended" in done.stdout
        assert "a function that makes the environment" in done.stdout


def test_processes_that_died_are_replaced():
    def vector():
        return gymnasium.vector.AsyncVectorEnv([Counter] * 2)

    made = trainer(vector, policy_env=Counter(), n_steps=8)
    made.fit(16, seed=0, verbose=0)
    for process in made.environments.vector.processes:
        process.terminate()
        process.join()
    frames, old = made.frames, made.environments.vector
    with pytest.warns(UserWarning, match=r"(?s)raised .*Error in step.*started anew"):
        made.fit(16, verbose=0)
    assert made.frames > frames
    assert made.environments.vector is not old
    made.environments.close()


class Doomed(Counter):
    """Its process is gone after some steps."""

    def step(self, action):
        if self.step_number == 2:
            os._exit(1)
        return super().step(action)


def test_processes_that_die_again_and_again_stop_training():
    made = trainer(
        lambda: gymnasium.vector.AsyncVectorEnv([Doomed] * 2), policy_env=Counter(), n_steps=8
    )
    with (
        pytest.warns(UserWarning, match="started anew") as warned,
        pytest.raises(RuntimeError, match=r"raised EOFError in step 3 of episode"),
    ):
        made.fit(16, seed=0, verbose=0)
    assert len(warned) == 3
    made.environments.close()
