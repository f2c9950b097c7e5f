"""Teachers in ONNX and TorchScript files: they answer by their runtime, and have no layers to use."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.config.study_file import read_study
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.errors import RequestError
from nas_compress.files import digest_of_file
from nas_compress.models.macs import count_macs, count_parameters
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_baseline, read_records
from nas_compress.search.preflight.feasibility import draw_candidates
from nas_compress.search.run import run_study
from nas_compress.search.setup import find_teacher, gather
from nas_compress.tasks.classification import Classification
from nas_compress.teacher.given import load_given_teacher
from nas_compress.teacher.runtime_network import OnnxNetwork, open_runtime_network
from nas_compress.values.signature import Signature, TensorSpec
from running import own_cache, sketch_pictures, write_study  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")

TASK = Classification.of_images(shape=(1, 8, 8), classes=10)
SAMPLES = torch.randint(0, 17, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

SPACE = '''"""Widths."""
from nas_compress.values.candidate import Candidate, distillation


def suggest(trial):
    """Propose one student."""
    width = trial.suggest_categorical("width_multiplier", [0.25, 0.5])
    losses = distillation(hard_weight=0.1, soft_weight=0.9, temperature=2.0)
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=width, losses=lossesCHANGES)
'''


class Net(nn.Module):
    def __init__(self, more: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8 * 16, 10)
        self.more = more

    def forward(self, samples: Tensor) -> Any:
        maps = F.max_pool2d(F.relu(self.norm(self.conv(samples.float() / 16))), 2)
        logits = self.head(maps.flatten(1))
        return (logits, maps) if self.more else logits


def network(more: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return Net(more).eval()


def write_onnx(
    path: Path, module: nn.Module, *, batch: int = 2, free: bool = True, names: tuple[str, ...] = ("y",)
) -> None:
    torch.onnx.export(
        module,
        (SAMPLES[:batch],),
        path,
        dynamo=False,
        input_names=["x.1"],
        output_names=list(names),
        dynamic_axes={"x.1": {0: "n"}, names[0]: {0: "n"}} if free else None,
    )


def write_script(path: Path, module: nn.Module) -> None:
    torch.jit.trace(module, SAMPLES[:2]).save(str(path))  # type: ignore[no-untyped-call]


def load(folder: Path, name: str, **given: Any) -> nn.Module:
    section = TeacherSection(weights=name, **given)
    return load_given_teacher(section, folder=folder, task=TASK, batch={"input": SAMPLES}, label="study.toml")


def refused(folder: Path, name: str, **given: Any) -> str:
    with pytest.raises(RequestError) as caught:
        load(folder, name, **given)
    line = str(caught.value)
    assert "\n" not in line and "study.toml" in line
    return line


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_onnx(folder / "net.onnx", network())
    write_onnx(folder / "fixed.onnx", network(), free=False)
    write_onnx(folder / "more.onnx", network(more=True), names=("logits.0", "maps"))
    write_script(folder / "net.pt", network())
    write_script(folder / "more.pt", network(more=True))
    return folder


@pytest.mark.parametrize("name", ["net.onnx", "fixed.onnx", "net.pt"])
def test_a_file_answers_like_the_module_it_was_made_from(name: str, files: Path) -> None:
    teacher = load(files, name)
    torch.testing.assert_close(teacher(SAMPLES), network()(SAMPLES), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(copy.deepcopy(teacher)(SAMPLES[:1]), teacher(SAMPLES)[:1], rtol=1e-4, atol=1e-5)
    assert teacher.digest == digest_of_file(files / name)


@pytest.mark.parametrize("name", ["more.onnx", "more.pt"])
def test_one_of_several_outputs_is_chosen(name: str, files: Path) -> None:
    for output in (0, "logits.0") if name.endswith(".onnx") else (0,):
        answers = load(files, name, output=output)(SAMPLES)
        torch.testing.assert_close(answers, network()(SAMPLES), rtol=1e-4, atol=1e-5)
    assert "choose one by teacher.output" in refused(files, name)
    assert "teacher.output must be an output of the module, but got 'logit'" in refused(files, name, output="logit")


@pytest.mark.parametrize(("names", "expected"), [(("right", "left"), 1.0), (("b", "a"), -1.0)])
def test_inputs_are_matched_by_their_names_or_else_by_their_order(
    names: tuple[str, str], expected: float, tmp_path: Path
) -> None:
    first, second = names
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("N", 1)) for name in (*names, "y")]
    node = helper.make_node("Sub", [second, first], ["y"])  # left minus right, if they are named so
    opset = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(helper.make_graph([node], "g", ends[:2], ends[2:]), opset_imports=opset, ir_version=8),
        tmp_path / "two.onnx",
    )
    left, right, y = (TensorSpec(name=name, dtype="float32", shape=("N", 1)) for name in ("left", "right", "y"))
    signature = Signature(inputs=(left, right), outputs=(y,))
    runtime = open_runtime_network(tmp_path / "two.onnx", signature, None, "study.toml")
    assert runtime(torch.full((2, 1), 3.0), torch.full((2, 1), 2.0)).flatten().tolist() == [expected] * 2


@pytest.mark.parametrize("condition", [True, False])
def test_branches_of_a_file_read_the_values_around_them(condition: bool, tmp_path: Path) -> None:
    def end(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("N", 1))

    def branch(operator: str, *inputs: str) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(operator, inputs, [operator])], operator, [], [end(operator)])

    stored = [
        helper.make_tensor("two", onnx.TensorProto.FLOAT, (1,), [2.0]),
        helper.make_tensor("chosen", onnx.TensorProto.BOOL, (), [condition]),
    ]
    node = helper.make_node(
        "If", ["chosen"], ["y"], then_branch=branch("Mul", "x", "two"), else_branch=branch("Neg", "x")
    )
    graph = helper.make_graph([node], "g", [end("x")], [end("y")], stored)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "branches.onnx")
    given, answer = (TensorSpec(name=name, dtype="float32", shape=("N", 1)) for name in ("input", "y"))
    signature = Signature(inputs=(given,), outputs=(answer,))
    runtime = open_runtime_network(tmp_path / "branches.onnx", signature, None, "study.toml")
    assert runtime(torch.tensor([[3.0], [1.0]])).flatten().tolist() == ([6, 2] if condition else [-3, -1])
    pair = Signature(inputs=(given,), outputs=(answer, TensorSpec(name="z", dtype="float32", shape=("N", 1))))
    with pytest.raises(RequestError, match=r"teacher.output names one output, but the data need y float32 \(N, 1\), z"):
        open_runtime_network(tmp_path / "branches.onnx", pair, 0, "study.toml")


def test_macs_and_parameters_of_an_onnx_file_are_those_of_the_module(files: Path) -> None:
    teacher, module = load(files, "net.onnx"), network()
    assert isinstance(teacher, OnnxNetwork)
    few = {"input": SAMPLES[:1]}
    # 8 filters of 9 and a bias on 64 places; 128 x 10 and 10 biases. Batch normalisation is folded into the convolution
    assert count_macs(teacher, few) == count_macs(module, few) == 64 * 8 * 10 + 128 * 10 + 10
    assert count_parameters(teacher) == count_parameters(module) - 2 * 8


def test_a_batch_that_is_built_in_is_refused(tmp_path: Path) -> None:
    class Mixed(Net):
        def forward(self, samples: Tensor) -> Tensor:
            logits: Tensor = super().forward(samples)
            return logits - logits.mean(dim=0)

    torch.manual_seed(0)
    write_onnx(tmp_path / "mixed.onnx", Mixed().eval())
    assert refused(tmp_path, "mixed.onnx").endswith(
        "must answer a sample alike in every batch, but mixed.onnx does not; export it in eval mode and with a free "
        "batch size"
    )


def test_samples_of_another_type_are_named(tmp_path: Path) -> None:
    torch.onnx.export(network(), (SAMPLES.float(),), tmp_path / "float.onnx", dynamo=False, input_names=["x"])
    assert "the file must take input uint8 (N, 1, 8, 8), but it takes x float32 (4, 1, 8, 8)" in refused(
        tmp_path, "float.onnx"
    )


def test_external_weights_and_unknown_operators_are_refused(files: Path, tmp_path: Path) -> None:
    model = onnx.load(files / "net.onnx")
    onnx.save_model(model, tmp_path / "outside.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert "a model file must hold its own weights" in refused(tmp_path, "outside.onnx")
    model = onnx.load(files / "net.onnx")  # saving moved its weights
    model.graph.node[-1].domain, model.graph.node[-1].op_type = "com.example", "Mystery"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save_model(model, tmp_path / "custom.onnx")
    assert "a model file must load in onnxruntime" in refused(tmp_path, "custom.onnx")


def test_other_files_are_refused_with_the_way_out(files: Path, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "state.pt")
    assert refused(tmp_path, "state.pt").endswith(
        "must be an ONNX or TorchScript file, but got state.pt; give teacher.factory, timm or hugging_face too"
    )
    (tmp_path / "net.onnx").write_bytes(b"no model")
    assert "a model file must be an ONNX model" in refused(tmp_path, "net.onnx")
    line = refused(files, "net.pt", factory="nets:build")
    assert line.endswith("but net.pt is a network of its own; give teacher.weights alone")


def study(folder: Path, weights: Path, changes: str = "") -> Path:
    old = "widths = [8, 16, 16]\nepochs = 2\nlearning_rate = 0.01\n"
    few = ("train_samples = 200", "train_samples = 64")
    space = SPACE.replace("CHANGES", changes)
    return write_study(folder, ("trials = 3", "trials = 1"), few, (old, f'weights = "{weights}"\n'), space=space)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt"])
def test_a_study_distils_its_answers(name: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sketch_pictures(monkeypatch)
    weights = tmp_path / name
    weights.write_bytes((files / name).read_bytes())
    file = study(tmp_path / "study", weights)
    run_study(file, out=tmp_path / "run")
    run = RunFolder(root=tmp_path / "run")
    (record,) = read_records(run)
    assert record.outcome.state == "trained" and record.outcome.losses["kd"] > 0, record.outcome.reason
    measured = read_baseline(run)
    assert measured is not None and measured.figure("macs") == 64 * 8 * 10 + 128 * 10 + 10
    teacher = find_teacher(gather(read_study(file)), lambda *given: None)
    assert teacher.answers.shape == (9, 64, 10) and teacher.weights_digest == digest_of_file(files / name)
    (write_onnx if name.endswith(".onnx") else write_script)(weights, Net().eval())
    with pytest.raises(RequestError, match="must have the weights with which the run began, but they differ from"):
        run_study(file, out=tmp_path / "run", trials=2)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (', pruning_ratio=0.5, pruning_criterion="l1"', "pruning_ratio=0.5"),
        (', init="inherit"', "init='inherit'"),
    ],
)
def test_candidates_that_need_layers_are_refused_before_the_study(
    changes: str, named: str, files: Path, tmp_path: Path
) -> None:
    parts = gather(read_study(study(tmp_path, files / "net.onnx", changes)))
    with pytest.raises(
        RequestError, match=f"{named} needs the layers of a teacher, but teacher.weights = .*net.onnx gives"
    ):
        draw_candidates(parts)


def test_losses_on_features_are_refused_before_the_study(files: Path, tmp_path: Path) -> None:
    path = study(tmp_path, files / "net.onnx")
    text = (path.parent / "space.py").read_text()
    text = text.replace("import Candidate, distillation", "import Candidate, LossTerm, distillation")
    text = text.replace("losses=losses", 'losses=(*losses, LossTerm(name="fitnet", weight=1.0))')
    (path.parent / "space.py").write_text(text)
    with pytest.raises(RequestError, match=r"loss 'fitnet' needs the layers of a teacher, but teacher.weights = "):
        draw_candidates(gather(read_study(path)))
