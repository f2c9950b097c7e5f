"""Students with vocabularies of their own sizes, from the search to the confirmation of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_compress.config.study_file import read_study
from nas_compress.confirm.measured_again import measure_files_again
from nas_compress.confirm.run import confirm_run
from nas_compress.devices.onnx_session import file_signature
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.runs.results import read_front
from nas_compress.search.measure import measure
from nas_compress.search.preflight.feasibility import draw_candidates
from nas_compress.search.run import run_study
from nas_compress.search.setup import gather
from nas_compress.search.study_data import study_dataset
from nas_compress.teacher.input_size_rules import require_picture_size
from nas_compress.values.candidate import Candidate
from running import quick_and_apart

STUDY = """name = "sizes"
space = "space.py"
trials = 2
objectives = ["accuracy", "size_bytes"]
[data]
text = "texts.csv"
vocabulary = 160
vocabulary_size = [160, 100]
test_share = 0.2
[teacher]
family = "text_bag"
epochs = 2
learning_rate = 0.02
[training]
epochs = 2
batch_size = 16
learning_rate = 0.02
[search]
sampler = "random"
stop = "none"
start = []
enqueue = [{ vocabulary_size = 160 }, { vocabulary_size = 100 }]
"""

SPACE = '''"""Bags of words."""
from nas_compress.values.candidate import Candidate, distillation


def suggest(trial):
    """Propose one student."""
    losses = distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0)
    return Candidate(family="text_bag", depths=(1,), losses=losses)
'''

WORDS = ("marvellous", "unforgettable", "enchanting", "delightful"), ("dreadful", "unwatchable", "tedious", "hopeless")
ROWS = [(f"a {word} film about {word} people", label) for label in (0, 1) for word in WORDS[label]] * 12


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "texts.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
    (folder / "study.toml").write_text(STUDY)
    (folder / "space.py").write_text(SPACE)
    with quick_and_apart():
        run_study(folder / "study.toml", out=folder / "run")
    return RunFolder(root=folder / "run")


def test_each_file_holds_the_vocabulary_of_its_size(run: RunFolder) -> None:
    whole, small = read_records(run)
    assert (whole.outcome.candidate.vocabulary_size, small.outcome.candidate.vocabulary_size) == (160, 100)
    sizes = []
    for record in (whole, small):
        assert record.outcome.state == "trained" and record.outcome.losses["kd"] > 0, record.outcome.reason
        (spec,) = file_signature(run.root / record.model).inputs
        assert spec.pieces is not None
        sizes.append(len(spec.pieces.pieces))
    assert sizes[0] > sizes[1] == 100


def test_files_are_measured_and_confirmed_with_their_own_vocabulary(run: RunFolder) -> None:
    study, records = run.root.parent / "study.toml", read_records(run)
    with quick_and_apart():
        again = measure_files_again(run, records, None, own=read_study(study))
        assert [found.differences for found in again] == [(), ()]
        measured = records[1].outcome.measured
        assert measured is not None
        assert measure(run.root / records[1].model, study)["accuracy"] == measured.figures["accuracy"]
        members = [point for point in read_front(run).members if point.trial == 1]
        confirmed = confirm_run(run, members, seeds=1, study=read_study(study))
    assert [row.failed for row in confirmed.rows] == [0] and confirmed.rows[0].test_mean > 0.5


def test_a_size_is_part_of_a_candidate_only_if_it_is_given() -> None:
    plain = Candidate(family="text_bag", depths=(1,))
    sized = Candidate(family="text_bag", depths=(1,), vocabulary_size=400)
    assert "vocabulary_size" not in plain.to_dict()
    assert Candidate.from_dict(sized.to_dict()) == sized and sized.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            'pruning_ratio=0.0, init="inherit"',
            "init='inherit' needs the teacher's vocabulary, but got vocabulary_size=",
        ),
        (
            'losses=(LossTerm(name="rkd_distance"), LossTerm(name="cross_entropy"))',
            "loss 'rkd_distance' needs the teacher's",
        ),
    ],
)
def test_layers_of_the_teacher_need_its_vocabulary(space: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
    (tmp_path / "own.txt").write_text("[PAD]\n[UNK]\nfilm\n")  # no student's letters
    (tmp_path / "study.toml").write_text(STUDY.replace("vocabulary = 160", 'vocabulary = "own.txt"'))
    head, tail = SPACE.split("def suggest")
    code = head + "from nas_compress.values.candidate import LossTerm\n\ndef suggest" + tail
    (tmp_path / "space.py").write_text(code.replace("losses=losses", space))
    with quick_and_apart(), pytest.raises(RequestError, match=message):
        gather_and_check(tmp_path)


def test_a_network_of_the_user_keeps_its_vocabulary() -> None:
    candidate = Candidate(family="pruned", depths=(), vocabulary_size=100)
    with pytest.raises(RequestError, match="family='pruned' needs the teacher's vocabulary, but got vocabulary_size="):
        require_picture_size(candidate, None, None, own_network=None, build=None)  # type: ignore[arg-type]


def test_views_of_texts_need_one_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY.replace("test_share", 'augment = "transfer_text"\ntest_share'))
    with pytest.raises(RequestError, match=r"vocabulary_size needs texts as they are, .* got augment='transfer_text'"):
        study_dataset(read_study(tmp_path))


def test_vocabularies_of_one_number_are_known_apart(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
    (tmp_path / "study.toml").write_text(STUDY)
    with quick_and_apart():
        learned = study_dataset(read_study(tmp_path)).sizes[100].task.signature.vocabulary
        words = ["[PAD]", "[UNK]", *(f"word{number}" for number in range(learned - 2))]
        (tmp_path / "own.txt").write_text("".join(f"{word}\n" for word in words))
        (tmp_path / "study.toml").write_text(STUDY.replace("vocabulary = 160", 'vocabulary = "own.txt"'))
        message = rf"must have other numbers of word pieces than data.vocabulary \({learned}\), but got 100"
        with pytest.raises(RequestError, match=message):
            study_dataset(read_study(tmp_path))


def test_a_size_must_be_among_those_of_the_study(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
    (tmp_path / "study.toml").write_text(STUDY[: STUDY.index("enqueue")])
    (tmp_path / "space.py").write_text(SPACE.replace("losses=losses", "losses=losses, vocabulary_size=120"))
    message = "vocabulary_size must be one of 160, 100, as in data.vocabulary_size, but got vocabulary_size=120"
    with quick_and_apart(), pytest.raises(RequestError, match=message):
        gather_and_check(tmp_path)


def test_vocabularies_need_texts(tmp_path: Path) -> None:
    text = STUDY.replace('text = "texts.csv"\nvocabulary = 160\n', 'name = "digits"\n').replace(
        "test_share = 0.2\n", ""
    )
    (tmp_path / "study.toml").write_text(text.replace("text_bag", "resnet"))
    with (
        quick_and_apart(),
        pytest.raises(RequestError, match="vocabulary and max_tokens are for texts, but digits has"),
    ):
        study_dataset(read_study(tmp_path))


def gather_and_check(folder: Path) -> None:
    """Check all candidates of a study, as `run` does first."""
    draw_candidates(gather(read_study(folder)))
