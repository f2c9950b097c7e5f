"""The built-in space of texts: every family reaches a file in a form of few bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from running import own_cache as own_cache
from text_settings import SHORT_TRAININGS

STUDY = """name = "texts"
space = "text"
trials = 5
objectives = ["accuracy", "latency_ms", "size_bytes"]
[data]
text = "texts.csv"
vocabulary = 100
max_tokens = 12
test_share = 0.2
"""
STUDY += (
    SHORT_TRAININGS
    + """enqueue = [
    { family = "text_bag", precision_of_bag = "weights2", taught = "labels" },
    { family = "text_cnn", precision_of_cnn = "int6" },
    { family = "recurrent", cell = "lstm", precision_of_lstm = "int4" },
    { family = "recurrent", cell = "gru", precision_of_gru = "weights4" },
    { family = "encoder", precision_of_encoder = "int6" },
]
"""
)

GOOD = ("fine joy", "great fun", "warm, kind and clever", "a rare delight of a film")
BAD = ("dull", "no plot", "a sad, tired bore", "long and cold and very bad")


@pytest.mark.slow
def test_each_family_of_the_space_is_trained_and_measured(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    rows = [f'"{text}",{word}\n' for _ in range(20) for word, texts in (("yes", GOOD), ("no", BAD)) for text in texts]
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(rows))
    (tmp_path / "study.toml").write_text(STUDY)
    front = run_study(tmp_path / "study.toml", out=tmp_path / "run")
    records = read_records(RunFolder(root=tmp_path / "run"))
    assert [record.outcome.state for record in records] == ["trained"] * 5, [
        record.outcome.reason for record in records
    ]
    families = [record.outcome.candidate.shape.family for record in records]
    assert families == ["text_bag", "text_cnn", "recurrent", "recurrent", "encoder"]
    assert front.points
    for record in records:
        measured = record.outcome.measured
        assert measured is not None and {"accuracy", "latency_ms", "size_bytes"} <= measured.figures.keys()
        assert measured.figures["accuracy"] >= 0.5
