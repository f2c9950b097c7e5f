"""Task-agnostic students: features of the pretrained encoder first, then a head or the whole network by labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inherited_contexts import ALL, bert_context
from nas_compress.config.schema import TrainingSection
from nas_compress.errors import RequestError
from nas_compress.measurement.pipeline import Stopwatch
from nas_compress.teacher.derived import pretrained
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.pretrained.task_agnostic_stages import stages_of
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.trial.train_student import teach
from nas_compress.values.candidate import Candidate, LossTerm, Quantization, Teaching, distillation

AGNOSTIC = replace(
    ALL,
    depths=(2,),
    losses=(LossTerm(name="task_loss"), LossTerm(name="sentence_embedding"), LossTerm(name="hidden_state")),
    teaching=Teaching(teacher="task_agnostic", body="frozen"),
)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    context = bert_context(tmp_path_factory.mktemp("agnostic"))
    return replace(context, training=TrainingSection(epochs=3, batch_size=16, learning_rate=3e-3))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path_factory.getbasetemp() / "agnostic-cache"))


def trained(candidate: Candidate, context: TrialContext) -> tuple[dict[str, Tensor], dict[str, Tensor], list[int]]:
    """The weights after each stage, and the finished epochs as they are shown."""
    shape = student_architecture(candidate, context, seed=0)
    student = new_student(candidate, shape, context.teacher, seed=0)
    kept: dict[int, dict[str, Tensor]] = {}
    shown: list[int] = []

    def note(done: int, planned: int) -> None:
        kept[done] = {name: value.clone() for name, value in student.state_dict().items()}
        shown.append(done)
        assert planned == 3

    teach(candidate, [student], context, layer_bits={}, epochs=3, seed=0, watch=Stopwatch(), on_epoch=note)
    return kept[2], student.state_dict(), shown


def test_the_pretrained_encoder_is_that_of_the_folder(context: TrialContext) -> None:
    before = pretrained(context.teacher)
    assert pretrained(context.teacher) is before and before.fingerprint != context.teacher.fingerprint
    ours, theirs = before.network.state_dict(), context.teacher.network.state_dict()
    assert not torch.equal(ours["layers.0.mlp.inner.weight"], theirs["layers.0.mlp.inner.weight"])
    student = new_student(AGNOSTIC, student_architecture(AGNOSTIC, context, seed=0), context.teacher, seed=0)
    state = student.state_dict()
    assert all(torch.equal(state[name], ours[name]) for name in state if name.startswith(("embedding", "layers.1.")))


def test_a_frozen_body_keeps_its_bits_and_a_tuned_one_learns(context: TrialContext) -> None:
    body, end, shown = trained(AGNOSTIC, context)
    assert shown == [1, 2, 3]
    changed = {name for name, value in end.items() if not torch.equal(value, body[name])}
    assert changed and all(name.startswith("head.") for name in changed)
    body, end, _ = trained(replace(AGNOSTIC, teaching=Teaching(teacher="task_agnostic", body="tuned")), context)
    assert not torch.equal(body["layers.0.mlp.inner.weight"], end["layers.0.mlp.inner.weight"])


def test_the_first_stage_brings_the_embeddings_together(context: TrialContext) -> None:
    fresh = replace(AGNOSTIC, init="scratch", heads=3)
    shape = student_architecture(fresh, context, seed=0)
    student = new_student(fresh, shape, context.teacher, seed=0)
    wide = replace(context, training=TrainingSection(epochs=8, batch_size=16, learning_rate=1e-2))
    losses: list[float] = []
    for epochs in (2, 8):
        student = new_student(fresh, shape, context.teacher, seed=0)
        told = teach(fresh, [student], wide, layer_bits={}, epochs=epochs, seed=0, watch=Stopwatch())
        losses.append(told["sentence_embedding"])
    assert losses[1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("family", "body", "bits"),
    [
        ("encoder", "frozen", 8),
        ("text_cnn", "tuned", 32),
        pytest.param("text_bag", "frozen", 4, marks=pytest.mark.slow),
    ],
)
def test_students_of_any_family_ship(family: str, body: str, bits: int, context: TrialContext, tmp_path: Path) -> None:
    losses = (LossTerm(name="task_loss"), LossTerm(name="sentence_embedding"))
    candidate = Candidate(
        family=family,
        depths=(1,),
        losses=losses,
        weight_bits=bits,
        teaching=Teaching(teacher="task_agnostic", body=body),
    )
    outcome = run_trial(candidate, context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert set(outcome.losses) == {"task_loss", "sentence_embedding"}
    assert outcome.epochs == 3 and [epoch for epoch, _ in outcome.curve] == [3]


@pytest.mark.parametrize("last", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_it_resumes_to_the_same_bits(last: int, context: TrialContext, tmp_path: Path) -> None:
    def until(epoch: int) -> Callable[[int, int], None]:
        def note(done: int, planned: int) -> None:
            if done == epoch:
                raise KeyboardInterrupt

        return note

    whole, again, checkpoint = (tmp_path / name for name in ("whole.onnx", "again.onnx", "checkpoint"))
    run_trial(AGNOSTIC, context, seed=0, model=whole)
    with pytest.raises(KeyboardInterrupt):
        run_trial(AGNOSTIC, context, seed=0, model=again, on_epoch=until(last), checkpoint=checkpoint)
    assert checkpoint.is_file()
    run_trial(AGNOSTIC, context, seed=0, model=again, checkpoint=checkpoint)
    assert again.read_bytes() == whole.read_bytes()


def test_stages_have_whole_epochs_and_leave_one_for_labels() -> None:
    def epochs(share: float, count: int) -> list[int]:
        teaching = Teaching(teacher="task_agnostic", distilled=share)
        return [stage.epochs for stage in stages_of(replace(AGNOSTIC, teaching=teaching), count)]

    assert epochs(0.7, 10) == [7, 3] and epochs(0.99, 4) == [3, 1] and epochs(0.01, 2) == [1, 1]
    assert [stage.epochs for stage in stages_of(ALL, 4)] == [4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"losses": distillation(hard_weight=0.5, soft_weight=0.5, temperature=1.0)},
            "has no answers to the task, but got loss 'kd'; use losses on features, such as sentence_embedding",
        ),
        ({"losses": (LossTerm(name="hidden_state"),)}, "features and one on labels, but got losses hidden_state"),
        ({"kept_blocks": "importance"}, "chosen without labels, but got kept_blocks='importance'"),
        ({"head_ratio": 0.5}, "chosen without labels, but got head_ratio=0.5"),
        ({"weight_bits": 4, "quantization": Quantization(method="lsq")}, "but got quantization.method='lsq'"),
        ({"zero_pattern": "one_shot", "zero_fraction": 0.5}, "but got zero_pattern='one_shot'"),
        (
            {"losses": (LossTerm(name="task_loss", settings={"begin": 0.5}), LossTerm(name="hidden_state"))},
            "has a schedule of its own, `distilled`, but got begin or end of task_loss",
        ),
        ({"teaching": Teaching(teacher="task_agnostic", annealing=True)}, "but got annealing or soft_stop"),
    ],
)
def test_impossible_combinations_are_refused(change: dict[str, object], message: str, context: TrialContext) -> None:
    with pytest.raises(RequestError) as caught:
        candidate_rules(context, seed=0).require(replace(AGNOSTIC, **change))  # type: ignore[arg-type]
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_pretrained_encoder_and_two_epochs_are_needed(context: TrialContext) -> None:
    short = replace(context, training=TrainingSection(epochs=1, batch_size=16))
    with pytest.raises(RequestError, match="epochs >= 2 must hold for teacher='task_agnostic', but got 1"):
        candidate_rules(short, seed=0).require(AGNOSTIC)
    plain = context.teacher.section.model_copy(update={"hugging_face": None, "fine_tune": None})
    trained_here = replace(context, teacher=replace(context.teacher, section=plain, start=None))
    with pytest.raises(RequestError, match=r"needs an encoder of teacher.hugging_face with fine_tune.* teacher.family"):
        candidate_rules(trained_here, seed=0).require(AGNOSTIC)
