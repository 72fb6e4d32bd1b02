"""What every estimator says is to be cited."""

import collections
import re

import keras
import pytest

import tf_relax
from tf_relax import estimators, rl, sequences
from tf_relax._src.estimators.citations import PAPERS

FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{", re.M)


def closing(text, opening):
    """Returns where the brace that opens at a place is closed."""
    depth = 0
    for place in range(opening, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return place
    raise ValueError(f"A brace is not closed: {text[opening : opening + 40]}")


def parsed(bibtex):
    """Returns kind, key and fields of every entry, and refuses what is none."""
    entries, at = [], 0
    while bibtex[at:].strip():
        head = re.compile(r"\s*@(\w+)(?=\{)").match(bibtex, at)
        assert head, bibtex[at : at + 40]
        end = closing(bibtex, head.end())
        key, body = bibtex[head.end() + 1 : end].split(",", 1)
        fields, place = {}, 0
        while body[place:].strip(", \n"):
            name = re.compile(r"[\s,]*(\w+) = (?=\{)").match(body, place)
            assert name, body[place : place + 40]
            place = closing(body, name.end()) + 1
            assert name[1] not in fields
            fields[name[1]] = " ".join(body[name.end() + 1 : place - 1].split())
        entries.append((head[1], key, fields))
        at = end + 1
    return entries


def keys(cited):
    return [key for _, key, _ in parsed(cited.citation())]


def test_an_entry_is_read_and_others_are_refused():
    text = "@article{a2020,\n  author = {O{\\'e}, P.},\n  year = {2020}, eprint = {2001.00001}\n}"
    fields = {"author": "O{\\'e}, P.", "year": "2020", "eprint": "2001.00001"}
    assert parsed(text + "\n\n" + text) == [("article", "a2020", fields)] * 2
    for wrong in (text[:-1], "no entry", text.replace("year = {", "year = ")):
        with pytest.raises((AssertionError, ValueError)):
            parsed(wrong)


@pytest.mark.parametrize("key", PAPERS)
def test_an_entry_says_who_what_when_and_where(key):
    ((kind, found, fields),) = parsed(PAPERS[key])
    assert found == key
    venue = {"article": "journal", "inproceedings": "booktitle"}[kind]
    assert fields.keys() >= {"author", "title", "year", venue}
    assert all(fields.values())
    # Family name first, and the key is that of the first author and the year.
    authors = fields["author"].split(" and ")
    assert all(re.fullmatch(r"[^,]+, [^,]+", author) for author in authors)
    family = re.sub(r"[^a-z]", "", authors[0].split(",")[0].lower())
    assert re.fullmatch(rf"{family}{fields['year']}[a-z0-9]*", key)
    if "eprint" in fields:
        number = re.fullmatch(r"(\d{2})(\d{2})\.(\d{4,5})", fields["eprint"])
        assert fields["archivePrefix"] == "arXiv"
        year, month = 2000 + int(number[1]), int(number[2])
        assert 1 <= month <= 12
        # Five digits since 2015; printed as a preprint, or one to two years before the paper.
        assert len(number[3]) == (5 if year >= 2015 else 4)
        assert 0 <= int(fields["year"]) - year <= 2
        if "arXiv" in fields.get("journal", ""):
            assert fields["journal"] == f"arXiv preprint arXiv:{fields['eprint']}"


def test_no_paper_stands_there_twice_or_for_nothing():
    titles = collections.Counter(parsed(entry)[0][2]["title"] for entry in PAPERS.values())
    assert set(titles.values()) == {1}
    numbers = [parsed(entry)[0][2].get("eprint") for entry in PAPERS.values()]
    numbers = [number for number in numbers if number]
    assert len(set(numbers)) == len(numbers)
    modules = (estimators, rl, sequences)
    classes = [getattr(m, name) for m in modules for name in m.__all__]
    used = {paper for each in classes for paper in getattr(each, "papers", ())}
    # The last two are cited by arguments.
    assert set(PAPERS) == used | {"cheng2019", "schulman2016"}


EXPECTED = {
    "arms": ["dimitriev2021arms"],
    "concrete": ["maddison2017", "jang2017"],
    "disarm": ["dong2020", "yin2020"],
    "disarm_tree": ["dong2021"],
    "dlax": ["grathwohl2018"],
    "double_cv": ["titsias2022"],
    "exact": ["williams1992"],
    "gumbel_straight_through": ["jang2017"],
    "lax": ["grathwohl2018"],
    "leave_one_out": ["kool2019"],
    "measure_valued": ["mohamed2020"],
    "muprop": ["gu2016"],
    "nvil": ["mnih2014"],
    "rebar": ["tucker2017"],
    "reinforce": ["williams1992"],
    "reinmax": ["liu2023"],
    "rejection": ["naesseth2017"],
    "relax": ["grathwohl2018"],
    "reparameterization": ["kingma2014"],
    "rodeo": ["shi2022"],
    "sb_carms": ["dimitriev2021carms"],
    "straight_through": ["bengio2013"],
    "unordered_set": ["kool2020"],
    "vimco": ["mnih2016vimco"],
}


@pytest.mark.parametrize("name", estimators.names())
def test_every_estimator_cites_its_papers(name):
    assert keys(estimators.get(name)) == EXPECTED[name]


def test_the_papers_are_those_of_the_docstring():
    for name in estimators.names():
        estimator = estimators.get(name)
        ((_, _, fields), *_) = parsed(estimator.citation())
        if name == "exact":  # by no paper, see its note
            continue
        first = fields["author"].split(",")[0].removeprefix("van ")
        text = type(estimator).__doc__
        assert first in text, (name, first)
        # Preprints are cited by the year before.
        years = {fields["year"], str(int(fields["year"]) - 1)}
        assert any(year in text for year in years), (name, years)


@pytest.mark.parametrize(
    "estimator",
    [
        estimators.Relax(num_samples=2, coupling="antithetic"),
        estimators.Relax(num_conditional=3, coupling="antithetic"),
        estimators.Rebar(num_samples=2, coupling="antithetic"),
        estimators.Lax(num_samples=2, coupling="antithetic"),
    ],
    ids=repr,
)
def test_the_antithetic_coupling_is_said_to_be_of_this_package(estimator):
    plain = type(estimator)(num_samples=2)
    ((_, key, fields),) = parsed(estimator.citation())
    ((_, plain_key, plain_fields),) = parsed(plain.citation())
    note = fields.pop("note")
    assert (key, fields) == (plain_key, plain_fields)
    assert "note" not in plain_fields
    assert "antithetic" in note
    assert r"tf\_relax" in note


def test_exact_says_what_it_does_with_the_formula():
    ((_, key, fields),) = parsed(estimators.Exact().citation())
    assert key == "williams1992"
    assert "instead of sampled" in fields["note"]
    assert "note" not in estimators.Reinforce().citation()


def test_a_combination_cites_all_of_its_parts_once():
    parts = {
        "a": estimators.Relax(),
        "b": estimators.LeaveOneOut(2),
        "c": estimators.Lax(num_samples=2, coupling="antithetic"),
        "d": estimators.LeaveOneOut(2),
    }
    found = parsed(estimators.PerLayer(parts).citation())
    assert [key for _, key, _ in found] == ["grathwohl2018", "kool2019"]
    assert "antithetic" in found[0][2]["note"]  # whichever part adds it


def chosen(layer, loss="mse"):
    model = tf_relax.RelaxModel([keras.Input((8,)), keras.layers.Dense(10), layer])
    model.compile("adam", loss=loss)
    return model.estimator


def test_auto_cites_its_choice():
    bits = chosen(tf_relax.layers.RelaxBernoulli())
    assert isinstance(bits, estimators.Arms)
    assert keys(bits) == ["dimitriev2021arms"]
    order = chosen(tf_relax.layers.RelaxPermutation(output="index"))
    assert isinstance(order, estimators.LeaveOneOut)
    assert keys(order) == ["kool2019"]
    with pytest.raises(ValueError, match=r"model\.estimator\.citation\(\)"):
        estimators.Auto().citation()


class Own(estimators.Estimator):
    def estimate(self, passes):
        raise NotImplementedError


class Quieter(estimators.Relax):
    papers = ("grathwohl2018", "@misc{me2030,\n  author = {Me, My},\n  year = {2030}\n}")


class Misspelt(estimators.Relax):
    papers = ("grathwohl",)


def test_an_estimator_of_a_users_own_cites_what_it_names():
    assert Own().citation() == ""
    assert keys(Quieter()) == ["grathwohl2018", "me2030"]
    assert "antithetic" in Quieter(num_samples=2, coupling="antithetic").citation()
    with pytest.raises(ValueError, match=r"'grathwohl2018'.*Received: 'grathwohl'"):
        Misspelt().citation()
    # Beside others it adds nothing.
    assert keys(estimators.PerLayer({"a": Own(), "b": estimators.MuProp()})) == ["gu2016"]


def trainer(**arguments):
    return rl.PolicyGradient(rl.dense_policy("CartPole-v1"), "CartPole-v1", **arguments)


@pytest.mark.parametrize(
    ("cited", "expected"),
    [
        (rl.PolicyReinforce(), ["williams1992", "sutton1999"]),
        (rl.A2C(), ["mnih2016a3c", "sutton1999"]),
        (rl.PolicyLax(), ["grathwohl2018"]),
        (rl.PolicyRelax(), ["grathwohl2018"]),
        (rl.PolicyRelax(trajectory_wise=True), ["grathwohl2018", "cheng2019"]),
        (rl.VTrace(), ["espeholt2018"]),
        (rl.Clip(), ["schulman2017"]),
        (rl.KLPenalty(), ["schulman2017"]),
        (rl.NaturalGradient(), ["kakade2001", "schulman2015"]),
        (sequences.SequenceReinforce(), ["williams1992"]),
        (sequences.SequenceLeaveOneOut(), ["kool2019"]),
        (sequences.SequenceUnorderedSet(), ["kool2020", "kool2019beams"]),
        (sequences.SequenceRelax(), ["grathwohl2018"]),
        (sequences.GroupNormalized(), ["shao2024"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_policies_and_sequences_cite_their_papers(cited, expected):
    assert keys(cited) == expected


def test_a_trainer_cites_all_that_it_is_made_of():
    assert keys(trainer(estimator="relax")) == ["grathwohl2018"]
    made = trainer(estimator="a2c", trust_region=rl.Clip(), reuse=None, gae_lambda=0.95, n_steps=8)
    expected = ["mnih2016a3c", "sutton1999", "schulman2017", "schulman2016"]
    assert keys(made) == expected
    made.gae_lambda = 1.0
    assert keys(made) == expected[:-1]
