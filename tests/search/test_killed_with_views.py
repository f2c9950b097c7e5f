"""A trial with drawn views, mixed samples and a function of the user, killed in mid-training, keeps its bits."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

import pytest

from dying import Death, run_and_die
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from running import write_study

SPACE = '''"""One student of a teacher's answers, with rounding in its last epoch."""
from nas_compress.values.candidate import Candidate, Quantization, distillation


def suggest(trial):
    """Propose the student."""
    width = trial.suggest_categorical("width", [0.5])
    return Candidate(
        family="resnet",
        depths=(1, 1, 1),
        width_multiplier=width,
        weight_bits=8,
        activation_bits=8,
        quantization=Quantization(method="lsq"),
        losses=distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0),
    )
'''

AUGMENT = '''import torch


def noisy(images, generator):
    """Add up to two grey levels to each pixel."""
    return (images + torch.randint(0, 3, images.shape, generator=generator)).to(images.dtype)
'''

CHANGES = (
    ("trials = 3", "trials = 1"),
    ("[training]\nepochs = 1", "[training]\nepochs = 4"),
    ("[data]\n", '[data]\naugment = "my_aug:noisy"\ncrop = 0.5\nmixup = 0.4\ncutmix = 1.0\nviews = 3\n'),
)


def run(place: Path, death: Death | None = None) -> int:
    study = write_study(place / "study", *CHANGES, space=SPACE)
    (place / "study" / "my_aug.py").write_text(AUGMENT)
    return run_and_die(["run", study], death, cwd=place, cache=place / "cache", log=place / "log")


def digests(place: Path) -> list[str]:
    folder = RunFolder(root=place / "runs" / "tiny")
    return [hashlib.sha256((folder.root / each.model).read_bytes()).hexdigest() for each in read_records(folder)]


@pytest.mark.slow
def test_a_killed_trial_continues_with_the_views_of_its_epochs(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for place in (whole, cut):
        place.mkdir()
    assert run(whole) == 0, (whole / "log").read_text()
    # two epochs of the teacher, then two of the student; the later ones have its other views and the rounding
    for call in (4, 2):
        death = Death(module="nas_compress.training.loop", function="_summary", call=call)
        assert run(cut, death) == -signal.SIGKILL, (cut / "log").read_text()
    assert run(cut) == 0, (cut / "log").read_text()
    assert len(digests(cut)) == 1 and digests(cut) == digests(whole)
