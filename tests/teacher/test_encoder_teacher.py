"""A teacher made of `nn.TransformerEncoder`, trained here, with and without torch's fast path and padding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from nas_compress.config.study_file import read_study
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.search.run import run_study
from nas_compress.search.setup import find_teacher, gather
from nas_compress.tasks.classification import Classification
from nas_compress.teacher.given import load_given_teacher
from running import own_cache, sketch_pictures, write_study  # noqa: F401

CODE = """
import torch
from torch import nn


class Rows(nn.Module):
    '''A class token and the eight rows of a picture; empty rows at the end are padding.'''

    def __init__(self, norm_first=False):
        super().__init__()
        self.embed, self.token = nn.Linear(8, 16), nn.Parameter(torch.randn(1, 1, 16))
        self.place = nn.Parameter(torch.randn(1, 9, 16) / 4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)
        self.head = nn.Linear(16, 10)

    def forward(self, samples):
        rows = samples.float().flatten(1, 2) / 16
        tokens = torch.cat([self.token.expand(rows.shape[0], -1, -1), self.embed(rows)], dim=1) + self.place
        return self.head(self.encoder(tokens, **self.options(rows))[:, 0])

    def options(self, rows):
        return {}


class Padded(Rows):
    def options(self, rows):
        padding = rows.sum(2).flip(1).cumsum(1).flip(1) == 0  # only rows after the last with ink
        return {"src_key_padding_mask": torch.cat([torch.zeros_like(padding[:, :1]), padding], dim=1)}


def first():
    return Rows(norm_first=True)
"""
KINDS = ("Rows", "Padded", "first")

SPACE = '''"""One student."""
from nas_compress.values.candidate import Candidate, distillation


def suggest(trial):
    """Propose one student."""
    width = trial.suggest_categorical("width_multiplier", [0.25, 0.5])
    losses = distillation(hard_weight=0.1, soft_weight=0.9, temperature=2.0)
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=width, losses=losses)
'''


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the code and weights of each kind after ten steps."""
    folder = tmp_path_factory.mktemp("encoders")
    (folder / "encoders_of_rows.py").write_text(CODE)
    names: dict[str, type[nn.Module]] = {}
    exec(CODE, names)
    images, labels = load_digits(return_X_y=True)
    samples = torch.tensor(images, dtype=torch.uint8).reshape(-1, 1, 8, 8)[:200]
    for kind in KINDS:
        torch.manual_seed(0)
        network = names[kind]().train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
        for _ in range(10):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(samples), torch.tensor(labels)[:200]).backward()
            optimiser.step()
        torch.save({"model": network.state_dict()}, folder / f"{kind}.pt")
    return folder


@pytest.fixture
def with_fast_path() -> Iterator[None]:
    """Restore torch's setting."""
    before = torch.backends.mha.get_fastpath_enabled()
    yield
    torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_the_same_with_and_without_the_fast_path(kind: str, trained: Path, with_fast_path: None) -> None:
    samples = torch.randint(0, 17, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    samples[:3, :, 5:] = 0
    teacher = load_given_teacher(
        TeacherSection(factory=f"encoders_of_rows:{kind}", weights=f"{kind}.pt"),
        folder=trained,
        task=Classification.of_images(shape=(1, 8, 8), classes=10),
        batch={"input": samples},
        label="study.toml",
    )
    answers = []
    for enabled in (True, False):
        torch.backends.mha.set_fastpath_enabled(enabled)
        with torch.inference_mode():
            answers.append(teacher(samples))
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-5)
    assert float(answers[0].std()) > 0.01


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_it_teaches_and_its_file_is_measured(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sketch_pictures(monkeypatch)
    old = "widths = [8, 16, 16]\nepochs = 2\nlearning_rate = 0.01\n"
    teacher = f'factory = "encoders_of_rows:Padded"\nweights = "{trained / "Padded.pt"}"\n'
    few = ("train_samples = 200", "train_samples = 64")
    study = write_study(tmp_path / "study", ("trials = 3", "trials = 1"), few, (old, teacher), space=SPACE)
    (study.parent / "encoders_of_rows.py").write_text(CODE)
    run_study(study, out=tmp_path / "run")
    run = RunFolder(root=tmp_path / "run")
    (record,) = read_records(run)
    assert record.outcome.state == "trained" and record.outcome.losses["kd"] > 0, record.outcome.reason
    measured, parts = read_baseline(run), gather(read_study(study))
    network = find_teacher(parts, lambda *given: None).network
    with torch.inference_mode():
        found = network(parts.dataset.validation.inputs["input"]).argmax(1)
    (labels,) = parts.dataset.validation.targets.values()
    accuracy = float((found == labels).float().mean())
    assert measured is not None and abs(measured.figure("accuracy") - accuracy) < 1e-6
