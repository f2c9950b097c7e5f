"""A study of texts whose words the file hashes itself: no vocabulary ships, and the bundle reads raw text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nas_compress.config.study_file import parse_spec
from nas_compress.devices.onnx_session import file_signature
from nas_compress.errors import RequestError
from nas_compress.runs.bundle import export_bundle
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from running import own_cache as own_cache
from running import quick_and_apart
from text_settings import SHORT_TRAININGS

STUDY = """name = "hashed"
space = "space.py"
trials = 2
[data]
text = "texts.csv"
hash_buckets = 300
max_tokens = 12
test_share = 0.2
"""
STUDY += (
    SHORT_TRAININGS
    + """enqueue = [
    { family = "text_bag", weight_bits = 4 },
    { family = "text_cnn", weight_bits = 8 },
]
"""
)

SPACE = '''"""Two families in two widths of numbers."""
from nas_compress.values.candidate import Candidate, LossTerm


def suggest(trial):
    """Propose one student."""
    family = trial.suggest_categorical("family", ["text_bag", "text_cnn"])
    bits = trial.suggest_categorical("weight_bits", [8, 4])
    losses = (LossTerm(name="task_loss"),)
    return Candidate(family=family, depths=(1,), width_multiplier=0.5, weight_bits=bits, losses=losses)
'''

GOOD = ("fine joy", "great fun", "warm, kind and clever", "a rare delight of a film")
BAD = ("dull", "no plot", "a sad, tired bore", "long and cold and très mauvais")
ROWS = [(text, word) for _ in range(20) for word, texts in (("yes", GOOD), ("no", BAD)) for text in texts]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("hashed")
    lines = "".join(f'"{text}",{label}\n' for text, label in ROWS)
    (folder / "texts.csv").write_text("text,label\n" + lines, encoding="utf-8")
    (folder / "study.toml").write_text(STUDY)
    (folder / "space.py").write_text(SPACE)
    with quick_and_apart():
        run_study(folder / "study.toml", out=folder / "run")
    return RunFolder(root=folder / "run")


def test_students_of_raw_bytes_are_measured_like_those_of_ids(run: RunFolder) -> None:
    for record in read_records(run):
        measured = record.outcome.measured
        assert record.outcome.state == "trained" and measured is not None, record.outcome.reason
        assert measured.figures["accuracy"] > 0.9 and measured.agreement == 1.0
        assert measured.figures["latency_p95_ms"] > 0
        assert measured.figures["size_bytes"] < 20_000
        (spec,) = file_signature(run.root / record.model).inputs
        assert (spec.dtype, spec.pieces) == ("uint8", None) and spec.words is not None
        assert (spec.words.buckets, spec.words.longest) == (300, 12) and spec.words.spacing in (4, 5)


def test_the_bundle_reads_raw_text_without_a_vocabulary(run: RunFolder, tmp_path: Path) -> None:
    export_bundle(run, 0, tmp_path / "bundle")
    assert not {"vocab.txt", "word_pieces.py"} & {path.name for path in (tmp_path / "bundle").iterdir()}
    assert "raw UTF-8 bytes" in (tmp_path / "bundle" / "README.md").read_text()
    example = (tmp_path / "bundle" / "example.py").read_text()
    for text, wanted in (("GREAT fun", "yes"), ("no plot", "no"), ("", "")):
        (tmp_path / "bundle" / "own.py").write_text(example.replace("An unexpected pleasure.", text))
        found = subprocess.run(
            [sys.executable, tmp_path / "bundle" / "own.py"], capture_output=True, text=True, check=True
        )
        assert found.stdout.startswith(wanted) and found.stdout.split()[0] in ("yes", "no")


def test_two_vocabularies_are_refused(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS))
    (tmp_path / "space.py").write_text(SPACE)
    (tmp_path / "study.toml").write_text(STUDY.replace("hash_buckets = 300", "hash_buckets = 300\nvocabulary = 400"))
    with pytest.raises(RequestError, match=r"texts must have one of vocabulary \(word pieces\) and hash_"):
        run_study(tmp_path / "study.toml", out=tmp_path / "run")
    values = {"name": "x", "space": "cnn", "data": {"text": "a.csv", "hash_buckets": 1}}
    with pytest.raises(RequestError, match=r"data.hash_buckets: .*greater than or equal to 2, but got"):
        parse_spec(values, "study.toml")
