from __future__ import annotations

from pathlib import Path

import pytest

from nas_compress.config.search_space import Space, fixed_space, load_space, sample_space
from nas_compress.errors import RequestError
from nas_compress.values.candidate import Candidate

HEAD = '"""Two points.\n\nMore about them."""\nfrom nas_compress.values.candidate import Candidate\n\n'
GOOD = HEAD + (
    'def suggest(trial):\n    return Candidate(family="resnet", depths=(trial.suggest_int("depth", 1, 2),))\n'
)


def load(folder: Path, text: str, name: str = "mine.py") -> Space:
    (folder / name).write_text(text)
    return load_space(name, folder=folder, shipped=folder / "shipped", where="study.toml: space")


def test_a_file_becomes_a_space(tmp_path: Path) -> None:
    space = load(tmp_path, GOOD)
    assert (space.name, space.summary) == ("mine", "Two points.")
    sampled = sample_space(space, draws=40, seed=0)
    assert {candidate.shape.depths for candidate in sampled.candidates} == {(1,), (2,)} and sampled.points == 2


def test_a_changed_text_is_another_space(tmp_path: Path) -> None:
    first, again, other = load(tmp_path, GOOD), load(tmp_path, GOOD), load(tmp_path, GOOD + "\n")
    assert first.source_hash == again.source_hash != other.source_hash


def test_a_space_may_define_a_dataclass(tmp_path: Path) -> None:
    start = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    kind = "@dataclass\nclass Block:\n    depth: int\n\n"
    body = 'def suggest(trial):\n    return Candidate(family="resnet", depths=(Block(2).depth,))\n'
    head = HEAD.split('"""\n', 1)[1]
    assert sample_space(load(tmp_path, start + head + kind + body), draws=1, seed=0).candidates[0].shape.depths == (2,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "a space must define suggest"),
        ("suggest = 3", "a space must define suggest"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def suggest(:", "SyntaxError"),
        ('raise ValueError("two\\nlines")', "ValueError: two lines"),
    ],
)
def test_a_file_that_is_no_space_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        load(tmp_path, text)
    line = str(caught.value)
    assert "\n" not in line and "(study.toml: space)" in line and "mine.py" in line


def test_an_unknown_name_offers_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "cnn.py").write_text(GOOD)
    for name, hint in (("cn", "; did you mean 'cnn'?"), ("gone.py", "; valid are cnn")):
        with pytest.raises(RequestError) as caught:
            load_space(name, folder=tmp_path, shipped=tmp_path / "shipped", where="study.toml: space")
        assert f"but got {name!r} (study.toml: space){hint}" in str(caught.value)
    assert load_space("cnn", folder=tmp_path, shipped=tmp_path / "shipped").name == "cnn"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", r"suggest\(\) of space mine must return a Candidate, but returned int"),
        ("return 1 / 0", "but raised ZeroDivisionError: division by zero"),
        ('return trial.suggest_int("x", 5, 1)', "but raised IndexError"),
        ('return Candidate(family="resnet", depths=())', "^space mine: depths must be one or more"),
    ],
)
def test_a_mistake_inside_suggest_names_the_space(body: str, message: str, tmp_path: Path) -> None:
    space = load(tmp_path, HEAD + f"def suggest(trial):\n    {body}\n")
    with pytest.raises(RequestError, match=message) as caught:
        sample_space(space, draws=1, seed=0)
    assert "\n" not in str(caught.value)


def test_a_fixed_space_has_one_point() -> None:
    candidate = Candidate(family="resnet", depths=(1,))
    sampled = sample_space(fixed_space(candidate), draws=5, seed=0)
    assert sampled.candidates == (candidate,) and sampled.points == 1
    other = fixed_space(Candidate(family="resnet", depths=(2,)))
    assert other.source_hash != fixed_space(candidate).source_hash
