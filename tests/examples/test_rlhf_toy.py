"""The example of rewarded strings: its parser, its corpus, and the command."""

import numpy as np
import pytest

import rlhf_toy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("()", True), ("([])[]", True), ("", True), ("(", False), ("(]", False), ("([)]", False),
        (")(", False), ("()()()()()()", False),  # has not ended
    ],
)  # fmt: skip
def test_what_balances(text, expected):
    tokens = np.zeros(rlhf_toy.LENGTH, int)
    tokens[: len(text)] = [rlhf_toy.SYMBOLS.index(symbol) for symbol in text]
    assert rlhf_toy.is_balanced(tokens) == expected


def test_most_strings_of_the_corpus_do_not_balance():
    strings = rlhf_toy.corpus(500, seed=0)
    assert (strings[:, -1] == rlhf_toy.STOP).all()
    assert 0.02 < np.mean([rlhf_toy.is_balanced(row) for row in strings]) < 0.4


def test_command(tmp_path, capsys):
    small = ["--units", "4", "--epochs", "1", "--steps", "1", "--kl-weights", "0.1"]
    outcomes = rlhf_toy.main([*small, "--verbose", "0", "--output", str(tmp_path)])
    assert set(outcomes) == {("reference", 0.0), ("leave_one_out", 0.1)}
    assert outcomes["reference", 0.0].kl == 0
    assert "different strings" in capsys.readouterr().out
    assert (tmp_path / "balance.png").stat().st_size > 1000


@pytest.mark.slow
def test_samples_learn_the_rule(tmp_path):
    run = ["--kl-weights", "0.05", "--steps", "300", "--verbose", "0", "--output", str(tmp_path)]
    outcomes = rlhf_toy.main(run)
    before, after = outcomes["reference", 0.0], outcomes["leave_one_out", 0.05]
    assert after.balanced > 0.8 > 2 * before.balanced
    assert after.different > 20
