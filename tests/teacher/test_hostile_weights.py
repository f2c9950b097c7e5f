"""Files with pickled code run none of it, in whatever form and under whatever name."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.errors import RequestError
from nas_compress.files import write_sealed_bytes
from nas_compress.tasks.classification import Classification
from nas_compress.teacher.given import load_given_teacher
from nas_compress.training.checkpoint import Checkpoint

NET = "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"


class Touch:
    """An object whose pickle creates a file."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.open, (self._path, os.O_CREAT | os.O_WRONLY)


def contents(marker: Path) -> dict[str, bytes]:
    """A plain pickle, a state dict with one more object, and torch's older format of it."""
    state = {**nn.Linear(64, 10).state_dict(), "more": Touch(marker)}
    found = {"pickle": pickle.dumps(Touch(marker))}
    for name, zipped in (("zip", True), ("legacy", False)):
        content = io.BytesIO()
        torch.save(state, content, _use_new_zipfile_serialization=zipped)
        found[name] = content.getvalue()
    return found


@pytest.mark.parametrize("kind", ["pickle", "zip", "legacy"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npy"])
def test_weights_with_code_are_refused_in_one_line(kind: str, suffix: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "hostile_net.py").write_text(NET)
    (tmp_path / f"net{suffix}").write_bytes(contents(marker)[kind])
    with pytest.raises(RequestError) as caught:
        load_given_teacher(
            TeacherSection(factory="hostile_net:build", weights=f"net{suffix}"),
            folder=tmp_path,
            task=Classification.of_images(shape=(1, 8, 8), classes=10),
            batch={"input": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)},
            label="study.toml",
        )
    line = str(caught.value)
    assert line.startswith("study.toml: teacher.weights must hold a state dict, but") and "\n" not in line
    assert "weights_only" not in line, "no message may recommend to load code"
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["pickle", "zip", "legacy"])
def test_a_checkpoint_with_code_counts_as_damaged(kind: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "state.pt"
    write_sealed_bytes(path, contents(marker)[kind])  # a person forged it: the checksum is right
    notices: list[str] = []
    checkpoint = Checkpoint(path=path, identity={"candidate": "a"}, notes=dict, notice=notices.append)
    assert not checkpoint.known
    assert notices == [f"{path} holds no state of a training. The training begins at its first epoch."]
    assert not marker.exists()


def test_the_pickles_run_code_if_they_are_loaded_without_care(tmp_path: Path) -> None:
    for kind, content in contents(tmp_path / "marker").items():
        torch.load(io.BytesIO(content), weights_only=False) if kind != "pickle" else pickle.loads(content)
        assert (tmp_path / "marker").exists(), kind
        (tmp_path / "marker").unlink()
