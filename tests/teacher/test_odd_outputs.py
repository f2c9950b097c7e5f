"""Users' teachers with unusual outputs, in whole studies: hot, shifted, infinite and in half precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from nas_compress.search.setup import find_teacher, gather
from running import command_in, own_cache, sketch_pictures, write_study  # noqa: F401

MODULE = """
import torch
from torch import nn
from torch.nn import functional as F


class Plain(nn.Module):
    scale, shift = 1.0, 0.0

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(1, 16, 3, padding=1), nn.Linear(16 * 16, 10)

    def forward(self, samples):
        samples = samples.to(self.first.weight.dtype) / 16
        return self.head(F.max_pool2d(F.relu(self.first(samples)), 2).flatten(1)) * self.scale + self.shift


class Hot(Plain):
    scale = 2e4


class Offset(Plain):
    shift = 5000.0


class LogOfZero(Plain):
    def forward(self, samples):
        return super().forward(samples).mul(400).softmax(1).log()


class Rarely(Plain):
    def forward(self, samples):
        ink = samples.float().sum((1, 2, 3))
        return super().forward(samples) + torch.where((ink < LEAST) | (ink > MOST), torch.inf, 0.0)[:, None]


class Bfloat(Plain):
    def forward(self, samples):
        return super().forward(samples).bfloat16()


class HalfInside(Plain):
    def forward(self, samples):
        return self.head(F.max_pool2d(self.first(samples.half()), 2).flatten(1))


def half():
    return Plain().half()


def half_bfloat():
    return Plain().bfloat16()
"""

SPACE = '''"""Widths."""
from nas_compress.values.candidate import Candidate, distillation


def suggest(trial):
    """Propose one student."""
    width = trial.suggest_categorical("width_multiplier", [0.25, 0.5])
    losses = distillation(hard_weight=0.1, soft_weight=0.9, temperature=2.0)
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=width, losses=losses)
'''


def state() -> dict[str, Tensor]:
    """Weights of a network that was really trained, for about a second."""
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    names: dict[str, type[nn.Module]] = {}
    exec(MODULE, names)
    network, (images, labels) = names["Plain"](), load_digits(return_X_y=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    samples, answers = torch.tensor(images).reshape(-1, 1, 8, 8)[:1000], torch.tensor(labels)[:1000]
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(samples), answers).backward()
        optimiser.step()
    return network.state_dict()


STATE = state()


def study(folder: Path, name: str, module: str = MODULE, dtype: torch.dtype = torch.float32) -> Path:
    changes = (
        ("trials = 3", "trials = 1"),
        (
            "widths = [8, 16, 16]\nepochs = 2\nlearning_rate = 0.01\n",
            f'factory = "odd:{name}"\nweights = "odd.safetensors"\n',
        ),
    )
    path = write_study(folder, *changes, space=SPACE)
    (folder / "odd.py").write_text(module)
    save_file({key: tensor.to(dtype) for key, tensor in STATE.items()}, folder / "odd.safetensors")
    return path


@pytest.fixture(autouse=True)
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    sketch_pictures(monkeypatch)


def student(tmp_path: Path, name: str, **given: object) -> tuple[float, bytes]:
    """Run the study of one trial; return the kd term and the bytes of the file."""
    root = tmp_path / f"run-{name}"
    run_study(study(tmp_path / name, name, **given), out=root)  # type: ignore[arg-type]
    (record,) = read_records(RunFolder(root=root))
    assert record.outcome.state == "trained", record.outcome.reason
    return record.outcome.losses["kd"], (root / record.model).read_bytes()


def test_logits_beyond_float16_teach_like_one_class_labels(tmp_path: Path) -> None:
    kd, _ = student(tmp_path, "Hot")
    assert 0 < kd < 100
    teacher = find_teacher(gather(read_study(tmp_path / "Hot")), lambda *told: None)
    chances = (teacher.answers.float() / 2).softmax(dim=2)
    assert float((chances.amax(dim=2) > 0.999).float().mean()) > 0.99


def test_a_common_offset_of_the_logits_teaches_the_same(tmp_path: Path) -> None:
    found = {
        name: find_teacher(gather(read_study(study(tmp_path / name, name))), print).answers
        for name in ("Plain", "Offset")
    }
    logs = {name: (answers.float() / 2).log_softmax(dim=2) for name, answers in found.items()}
    divergence = (logs["Plain"].exp() * (logs["Plain"] - logs["Offset"])).sum(dim=2)
    assert float(divergence.mean()) < 1e-6  # 5,000 leaves float32 a grid of 0.0005
    assert float((found["Plain"].argmax(dim=2) == found["Offset"].argmax(dim=2)).float().mean()) > 0.995
    assert abs(student(tmp_path, "Plain")[0] - student(tmp_path, "Offset")[0]) < 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["Plain", "half", "half_bfloat"])
def test_weights_of_any_float_type_become_float32(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    parts = gather(read_study(study(tmp_path, name, dtype=dtype)))
    teacher = find_teacher(parts, lambda *told: None)
    for key, tensor in teacher.network.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.allclose(tensor, STATE[key], rtol=0.01, atol=0.01)
    assert all(value.dtype == torch.float32 for value in teacher.make().state_dict().values())


RULE = (
    "study.toml: the teacher must return logits as float32, but it returned bfloat16; end its forward with "
    ".to(torch.float32)"
)
FINITE = (
    "study.toml: teacher.factory = odd:LogOfZero: the answers must be finite, but 200 of 200 train samples have inf or "
    "nan; return logits, or their log_softmax instead of the logarithm of probabilities"
)
CAST = "so forward must not cast samples to a fixed half type, but to the type of its weights"


@pytest.mark.parametrize("word", ["run", "check"])
@pytest.mark.parametrize(("name", "line"), [("Bfloat", RULE), ("LogOfZero", FINITE), ("HalfInside", CAST)])
def test_other_outputs_are_refused_before_anything_is_written(
    name: str, line: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = command_in(monkeypatch, capfd)(word, study(tmp_path / "study", name))
    assert answer.code == 2 and answer.line.endswith(line), answer.line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["validation", "train"])
def test_a_rare_infinity_is_found_before_the_first_trial(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One validation sample when the teacher is measured; some shifted training samples when it answers them."""
    monkeypatch.setattr("nas_compress.search.preflight.teacher_check.CHECKED_SAMPLES", 1)
    data = gather(read_study(study(tmp_path / "study", "Plain"))).dataset
    ink = data.validation.inputs["input"].sum((1, 2, 3))
    least, most = (0, int(ink.max()) - 1) if kind == "validation" else (int(ink.min()), 10_000)
    module = MODULE.replace("LEAST", str(least)).replace("MOST", str(most))
    count = {"validation": f"1 of {len(ink)}", "train": r"\d+ of 200"}[kind]
    with pytest.raises(RequestError, match=f"odd:Rarely: the answers must be finite, but {count} {kind} samples"):
        run_study(study(tmp_path / kind, "Rarely", module), out=tmp_path / "run")
    assert not list((tmp_path / "run").glob("trials/*"))
