"""Studies over networks that nobody here wrote, to a front of exported files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foreign import MODELS, Raw, import_timm
from nas_compress.devices.onnx_session import open_session
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from running import quick_and_apart, write_study

SPACE = '''"""Ratios of another's module, as floats and with integer weights: 8 points."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    """Propose a cut."""
    return Candidate(
        family="pruned",
        depths=(),
        pruning_ratio=trial.suggest_categorical("ratio", [0.0, 0.3, 0.6, 0.8]),
        pruning_criterion="l1",
        pruning_ranking="isomorphic",
        weight_bits=trial.suggest_categorical("bits", [32, 8]),
        round_to=4,
    )
'''
ENQUEUED = [(0.0, 32), (0.3, 8), (0.6, 32), (0.8, 8), (0.8, 32)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # its models look at their shapes
@pytest.mark.parametrize("name", MODELS)
def test_a_study_cuts_it_to_a_front(name: str, tmp_path: Path) -> None:
    import_timm()
    (tmp_path / "theirs.py").write_text(f'from foreign import Raw\n\n\ndef build():\n    return Raw("{name}")\n')
    torch.manual_seed(0)
    torch.save(Raw(name).state_dict(), tmp_path / "theirs.pt")
    enqueue = ", ".join(f"{{ ratio = {ratio}, bits = {bits} }}" for ratio, bits in ENQUEUED)
    study = write_study(
        tmp_path,
        ("widths = [8, 16, 16]\n", 'factory = "theirs:build"\nweights = "theirs.pt"\n'),
        ("train_samples = 200", "train_samples = 600"),
        ("[training]\nepochs = 1", "[training]\nepochs = 8"),
        space=SPACE,
        extra=f"enqueue = [{enqueue}]\n",
    )
    with quick_and_apart(tmp_path / "cache"):
        front = run_study(study, out=tmp_path / "run", trials=len(ENQUEUED))
    outcomes = [record.outcome for record in read_records(RunFolder(root=tmp_path / "run"))]
    assert [outcome.state for outcome in outcomes] == ["trained"] * len(ENQUEUED)
    assert len(front.members) >= 3
    assert max(point.figures["accuracy"] for point in front.members) > 0.25  # chance: 0.1
    for point in front.members:
        open_session(tmp_path / "run" / point.model)
