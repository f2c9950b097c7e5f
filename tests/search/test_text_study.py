"""A study of texts from its file to a bundle that reads raw text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from nas_compress.config.study_file import read_study
from nas_compress.confirm.measured_again import measure_files_again
from nas_compress.devices.onnx_session import file_signature
from nas_compress.errors import RequestError
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.measure import measure
from nas_compress.search.run import run_study
from nas_compress.search.trial_stopper import require_metrics
from nas_compress.tasks.regression import Regression
from nas_compress.teacher.runtime_network import open_runtime_network
from nas_compress.values.signature import TensorSpec
from running import own_cache as own_cache
from running import quick_and_apart
from text_settings import SHORT_TRAININGS

STUDY = """name = "texts"
space = "space.py"
trials = 3
objectives = ["accuracy", "latency_p95_ms", "size_bytes"]
[data]
text = "texts.csv"
text_column = ["title", "text"]
vocabulary = 100
max_tokens = 12
test_share = 0.2
"""
STUDY += (
    SHORT_TRAININGS
    + """enqueue = [
    { family = "text_bag", weight_bits = 32 },
    { family = "text_cnn", weight_bits = 8 },
    { family = "text_bag", weight_bits = 8 },
]
"""
)

SPACE = '''"""Two families in two widths of numbers."""
from nas_compress.values.candidate import Candidate, distillation


def suggest(trial):
    """Propose one student."""
    family = trial.suggest_categorical("family", ["text_bag", "text_cnn"])
    bits = trial.suggest_categorical("weight_bits", [32, 8])
    losses = distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0)
    return Candidate(family=family, depths=(1,), width_multiplier=0.5, weight_bits=bits, losses=losses)
'''

GOOD = ("fine joy", "great fun", "warm, kind and clever", "a rare delight of a film")
BAD = ("dull", "no plot", "a sad, tired bore", "long and cold and very bad")
ROWS = [(text, word) for _ in range(20) for word, texts in (("yes", GOOD), ("no", BAD)) for text in texts]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("texts")
    lines = "".join(f'{number},"{text}",{label}\n' for number, (text, label) in enumerate(ROWS))
    (folder / "texts.csv").write_text("title,text,label\n" + lines)
    (folder / "study.toml").write_text(STUDY)
    (folder / "space.py").write_text(SPACE)
    with quick_and_apart():
        run_study(folder / "study.toml", out=folder / "run")
    return RunFolder(root=folder / "run")


@pytest.fixture
def bundle(run: RunFolder, tmp_path: Path) -> Path:
    export_bundle(run, 1, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_every_student_is_measured_at_the_lengths_of_the_texts(run: RunFolder) -> None:
    for record in read_records(run):
        measured = record.outcome.measured
        assert record.outcome.state == "trained" and measured is not None
        assert {"accuracy", "latency_ms", "latency_p95_ms", "size_bytes", "macs"} <= measured.figures.keys()
        assert measured.figures["accuracy"] > 0.9
        assert measured.agreement == 1.0
    bag, cnn, small = (record.outcome.measured for record in read_records(run))
    assert bag is not None and cnn is not None and small is not None
    assert bag.figures["macs"] < cnn.figures["macs"]


def test_the_file_holds_its_vocabulary_whose_bytes_count(run: RunFolder) -> None:
    record = read_records(run)[0]
    path = run.root / record.model
    (spec,) = file_signature(path).inputs
    assert spec.pieces is not None and spec.pieces.longest == 12 and len(spec.pieces.pieces) == spec.values
    without = onnx.load(path)
    words = sum(len(entry.key) + len(entry.value) for entry in without.metadata_props)
    del without.metadata_props[:]
    size = record.outcome.measured.figures["size_bytes"]  # type: ignore[union-attr]
    assert size == path.stat().st_size >= len(without.SerializeToString()) + words


def test_the_bundle_reads_raw_text_without_packages_beside_onnxruntime_and_numpy(bundle: Path) -> None:
    assert {path.name for path in bundle.iterdir()} == {
        "model.onnx",
        "config.json",
        "metrics.json",
        "README.md",
        "example.py",
        "word_pieces.py",
        "vocab.txt",
        "required_operators.config",
    }
    code = (bundle / "example.py").read_text()
    assert code in (bundle / "README.md").read_text()
    answers = []
    for text in ("9 great fun", "9 a sad, tired bore", "", "fun " * 500):
        (bundle / "example.py").write_text(code.replace("An unexpected pleasure.", text))
        done = subprocess.run([sys.executable, bundle / "example.py"], capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout.split()[0])
    assert answers[:2] == ["yes", "no"] and set(answers) <= {"yes", "no"}
    imported = {line.split()[1] for name in ("example.py", "word_pieces.py") for line in _imports(bundle / name)}
    assert imported <= {"pathlib", "onnxruntime", "numpy", "word_pieces", "unicodedata", "collections.abc",
                        "dataclasses", "functools"}  # fmt: skip


def test_a_file_with_half_a_vocabulary_is_refused_in_one_line(run: RunFolder, tmp_path: Path) -> None:
    model = onnx.load(run.root / read_records(run)[0].model)
    for entry in model.metadata_props:
        if entry.key == "longest":
            entry.value = "many"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(RequestError, match="a vocabulary in a file must have pieces and a length, but got ValueError"):
        file_signature(tmp_path / "model.onnx")


def test_a_file_with_another_vocabulary_is_neither_measured_nor_a_teacher(run: RunFolder, tmp_path: Path) -> None:
    path, other = run.root / read_records(run)[0].model, tmp_path / "other.onnx"
    model, signature = onnx.load(path), file_signature(path)
    for entry in model.metadata_props:
        if entry.key == "word_pieces":
            first, *rest = entry.value.split("\n")
            entry.value = "\n".join([first, *reversed(rest)])
    onnx.save(model, other)
    with pytest.raises(RequestError, match=r"must have the word pieces of the data, but got .*other.onnx with others"):
        measure(other, run.root.parent / "study.toml")
    open_runtime_network(path, signature, None, "study.toml")
    with pytest.raises(RequestError, match="must have the word pieces of the data"):
        open_runtime_network(other, signature, None, "study.toml")


def _imports(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith(("import ", "from "))]


def test_the_configuration_names_the_texts_it_needs(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_text())
    assert config["study"]["data"]["text"] == "texts.csv"
    assert "It needs `texts.csv` next to config.json" in (bundle / "README.md").read_text()


def test_a_bundle_is_measured_with_the_recorded_figures(run: RunFolder, bundle: Path) -> None:
    found = measure(bundle / "model.onnx", run.root.parent / "study.toml")
    known = read_records(run)[1].outcome.measured
    assert known is not None and found["accuracy"] == known.figures["accuracy"]
    assert found["latency_p95_ms"] > 0


def test_texts_are_never_read_on_the_word_of_a_run_folder(run: RunFolder) -> None:
    with pytest.raises(RequestError, match=r"data from texts.csv need --study"):
        measure_files_again(run, read_records(run), None)


def test_a_tail_of_latencies_needs_samples_that_differ_in_time(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        'name = "x"\nspace = "cnn"\nobjectives = ["r2", "latency_p95_ms"]\n[data]\nname = "digits"\n'
    )
    spec = read_study(tmp_path / "study.toml").spec
    task = Regression(
        inputs=(TensorSpec(name="input", dtype="float32", shape=("N", 4)),), mean=(0.0,), std=(1.0,), metrics=("r2",)
    )
    with pytest.raises(RequestError, match="latency_p95_ms needs samples of several lengths or a task that may have"):
        require_metrics(spec, task)
