"""Every invalid request gives one clear line on stderr, exit code 2, and writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from running import SPACE, Command, snapshot, write_study

NO_TEACHER = "[teacher]\nwidths = [8, 16, 16]\nepochs = 2\nlearning_rate = 0.01\n"

MODULES = """
import numpy, torch
def number(): return 3
def broken(): raise ValueError("no such disk")
def linear(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
def splits(): return {"train": (numpy.zeros((4, 8, 8)), numpy.zeros(4))}
"""


def refused(command: Command, folder: Path, *words: str, arguments: tuple[object, ...] = ()) -> str:
    """Require exit code 2, one line with all words, and no written file; return the line."""
    before = snapshot(folder)
    answer = command(*(arguments or ("run", folder / "study")))
    assert answer.code == 2, answer
    assert answer.out == ""
    for word in words:
        assert word in answer.line, answer.line
    assert snapshot(folder) == before
    assert not (Path.cwd() / "runs").exists()
    return answer.line


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("trials = 3", "trials = ", ["valid TOML", "study.toml", "line 4"]),
        ("trials = 3", "trails = 3", ["study.toml", "got trails; did you mean 'trials'"]),
        ("train_samples", "train_sample", ["got data.train_sample; did you mean 'train_samples'"]),
        ("trials = 3", 'trials = "3"', ["study.toml: trials", "integer", "trials='3'"]),
        ("trials = 3", "trials = 0", ["trials", "greater than 0", "trials=0"]),
        ("trials = 3", 'trials = 3\nobjectives = ["xyz"]', ["'xyz'", "valid are"]),
        ("trials = 3", "trials = 3\nobjectives = []", ["at least one figure"]),
        ("trials = 3", 'trials = 3\ndevice = "tpu"', ["device", "'tpu'"]),
        ('name = "tiny"\n', "", ["name must be given"]),
        ('"space.py"', '"cmn"', ["(study.toml: space)", "'cmn'", "'cnn'"]),
        ('"space.py"', '"spacex.py"', ["(study.toml: space)", "'spacex.py'"]),
        ("[teacher]", '[teacher]\nfamily = "resnets"', ["study.toml: teacher.family", "'resnets'", "'resnet'"]),
        ("[teacher]", "[teacher]\ndepths = [1, 1]", ["widths and depths", "one entry per stage"]),
        ('"random"', '"randon"', ["study.toml: search.sampler", "'randon'", "'random'"]),
        ('"digits"', '"digit"', ["study.toml: data.name", "'digit'", "'digits'"]),
        ("train_samples = 200", "train_samples = 99999", ["train_samples", "99999"]),
        ('name = "digits"', 'folder = "sounds"\nseconds = 1e9', ["data.seconds", "600", "1000000000"]),
        ('name = "digits"', 'factory = "nowhere:load"', ["study.toml: data.factory", "'nowhere'"]),
        ('name = "digits"', 'factory = "nowhere"', ["study.toml: data.factory", "module:callable"]),
        ('name = "digits"', 'factory = "own:number"', ["study.toml: data.factory", "int"]),
        ('name = "digits"', 'factory = "own:broken"', ["study.toml: data.factory", "no such disk"]),
        ('name = "digits"', 'factory = "own:splits"', ["study.toml: data.factory", "labels must be integers"]),
        ('name = "digits"', 'factory = "own:numbers"', ["study.toml: data.factory", "did you mean 'number'"]),
        (
            'name = "digits"',
            'name = "digits"\n[optimizer]\nlr = 1.0',
            ["every key must be known, but got optimizer; did you mean 'training'?"],
        ),
        ("[teacher]", "[budgets]\nflops = { at_most = 1 }\n[teacher]", ["'flops'", "did you mean 'macs'?"]),
        (NO_TEACHER, '[teacher]\nfactory = "own:linear"\n', ["teacher", "factory and weights"]),
        (NO_TEACHER, '[teacher]\nfactory = "no:linear"\nweights = "wrong.safetensors"\n', ["teacher.factory", "'no'"]),
        (NO_TEACHER, '[teacher]\nfactory = "own:number"\nweights = "wrong.safetensors"\n', ["teacher.factory", "int"]),
        (NO_TEACHER, '[teacher]\nfactory = "own:linear"\nweights = "none.pt"\n', ["teacher.weights", "none.pt"]),
        (
            NO_TEACHER,
            '[teacher]\nfactory = "own:linear"\nweights = "wrong.safetensors"\n',
            ["teacher.weights", "1.bias missing for (10,)", "1.weight (10, 63) for (10, 64)", "a (1,) for", "1 more"],
        ),
    ],
)
def test_a_mistake_in_the_study_file(old: str, new: str, words: list[str], command: Command, tmp_path: Path) -> None:
    write_study(tmp_path / "study", (old, new))
    (tmp_path / "study" / "own.py").write_text(MODULES)
    wrong = {"1.weight": torch.zeros(10, 63), "a": torch.zeros(1), "b": torch.zeros(1)}
    save_file(wrong, tmp_path / "study" / "wrong.safetensors")
    refused(command, tmp_path, *words)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (SPACE.replace("return Candidate", "return trial, Candidate"), ["must return a Candidate", "tuple"]),
        (SPACE.replace("return Candidate", "raise ValueError('ups')\n    Candidate"), ["space", "ValueError: ups"]),
        (SPACE.replace("def suggest", "def propose"), ["must define suggest(trial)", "space.py"]),
        (SPACE.replace("def suggest(trial):", "def suggest(trial)"), ["space.py", "SyntaxError"]),
        (SPACE.replace('"resnet"', '"resnext"'), ["space", "'resnext'", "did you mean 'resnet'"]),
        (SPACE.replace("0.25", "0.0"), ["space", "0 < width_multiplier < inf must hold, but got width_multiplier=0.0"]),
        (SPACE.replace("(1, 1, 1)", "(1, 1)"), ["space", "depths", "(1, 1)"]),
        (
            SPACE.replace("width_multiplier=width", 'losses=(LossTerm(name="kt"),)').replace(
                "import Candidate", "import Candidate, LossTerm"
            ),
            ["space", "'kt'", "did you mean 'kd'"],
        ),
    ],
)
def test_a_mistake_in_the_space(space: str, words: list[str], command: Command, tmp_path: Path) -> None:
    write_study(tmp_path / "study", space=space)
    refused(command, tmp_path, *words, "space")


@pytest.mark.parametrize(
    ("name", "budget"), [("run", "size_bytes"), ("check", "latency_ms"), ("run", "parameters"), ("check", "macs")]
)
def test_a_budget_out_of_reach_is_refused_before_training(
    name: str, budget: str, command: Command, tmp_path: Path
) -> None:
    write_study(tmp_path / "study", extra=f"[budgets.{budget}]\nat_most = 0.001\n")
    before = snapshot(tmp_path)
    answer = command(name, tmp_path / "study")
    assert answer.code == 2
    assert f"study.toml: budgets.{budget} is at_most 0.001 and the smallest candidate of space has" in answer.line
    assert snapshot(tmp_path) == before
    assert (answer.out == "") == (name == "run")


def test_a_missing_study(command: Command, tmp_path: Path) -> None:
    refused(command, tmp_path, "'digitz'", "did you mean 'digits'", arguments=("run", "digitz"))


@pytest.mark.parametrize("name", ["status", "show", "plot", "export"])
def test_a_folder_that_is_no_run(name: str, command: Command, tmp_path: Path) -> None:
    more = ("--trial", 0, "--out", "bundle") if name == "export" else ()
    (tmp_path / "empty").mkdir()
    refused(command, tmp_path, "empty is empty", arguments=(name, "empty", *more))
    (tmp_path / "empty" / "notes.txt").touch()
    refused(command, tmp_path, "no run.json of ours", arguments=(name, "empty", *more))
    refused(command, tmp_path, "'nothing'", "no runs yet", arguments=(name, "nothing", *more))


def test_a_foreign_folder_as_out(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    refused(command, tmp_path, "--out", "other files", arguments=("run", study, "--out", tmp_path / "study"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--trial", 99), ["trial 99 does not exist"]),
        (("--trial", -1), ["trial -1 does not exist"]),
        (("--best", "xyz"), ["--best", "'xyz'", "valid are"]),
        (("--best", "accuracy", "--where", "sise_bytes<=3"), ["'sise_bytes'", "did you mean 'size_bytes'"]),
        (("--best", "accuracy", "--where", "size_bytes<=3"), ["none has size_bytes<=3"]),
        (("--best", "accuracy", "--where", "size_bytes"), ["column operator value"]),
        (("--trial", 0, "--where", "size_bytes<=3"), ["--trial must be given alone"]),
        (("--trial", 0, "--best", "accuracy"), ["--trial must be given alone"]),
        (("--trial", 0, "--all"), ["--trial must be given alone"]),
        (("--all", "--best", "accuracy"), ["at most one of --all and --best"]),
        (("--where", "accuracy>=1.5"), ["none has accuracy>=1.5"]),
        (("--trial", "two"), ["'two' is not a valid integer", "nas-compress export --help"]),
    ],
)
def test_a_mistake_in_export(
    arguments: tuple[object, ...], words: list[str], command: Command, finished: Path, tmp_path: Path
) -> None:
    refused(command, tmp_path, *words, arguments=("export", finished / "run", *arguments, "--out", "bundle"))
    assert not Path("bundle").exists()


def test_an_export_over_other_files(command: Command, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    arguments = ("export", finished / "run", "--best", "accuracy", "--out", "full")
    refused(command, tmp_path, "new or empty folder", arguments=arguments)


def test_a_mistake_in_show(command: Command, finished: Path, tmp_path: Path) -> None:
    run = finished / "run"
    refused(command, tmp_path, "did you mean 'accuracy'", arguments=("show", run, "--where", "acuracy>=0.1"))
    refused(command, tmp_path, "--best", "'speed'", arguments=("show", run, "--best", "speed"))


def test_nothing_is_exported_if_one_of_several_trials_cannot_be(
    command: Command, finished: Path, tmp_path: Path
) -> None:
    trained = next(path.parent.name for path in sorted((finished / "run" / "trials").glob("*/model.onnx")))
    arguments = ("export", finished / "run", "--trial", trained, "--trial", 99, "--out", "two")
    refused(command, tmp_path, "trial 99 does not exist", arguments=arguments)
    assert not Path("two").exists()


def test_a_file_that_is_no_model(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    refused(command, tmp_path, "ONNX", "model.onnx", arguments=("measure", "model.onnx", "--study", study))
    refused(command, tmp_path, "none.onnx", arguments=("measure", "none.onnx", "--study", study))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rum", "digits"), ["'rum'", "nas-compress --help"]),
        (("run",), ["STUDY", "nas-compress run --help"]),
        (("run", "digits", "--trials", "0"), ["--trials", "nas-compress run --help"]),
        (("run", "digits", "--trial", "4"), ["--trial", "--trials"]),
        (("list", "familys"), ["'familys'", "families"]),
    ],
)
def test_a_mistake_on_the_command_line(
    arguments: tuple[object, ...], words: list[str], command: Command, tmp_path: Path
) -> None:
    refused(command, tmp_path, *words, arguments=arguments)
