"""Every kind of teaching in a real trial: what is trained, stored and shipped."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from image_files import image_macs, predict_logits
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.kernel_check import float_kernels
from nas_compress.errors import RequestError
from nas_compress.models.families import build_student
from nas_compress.models.macs import count_macs
from nas_compress.teacher.derived import assistant, earlier, member
from nas_compress.teacher.teacher import Teacher
from nas_compress.trial.context import TrialContext
from nas_compress.trial.peer_shape import macs_together, peer_of
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import fresh_networks, student_architecture
from nas_compress.trial.train_student import find_supervision, objective_of
from nas_compress.trial.validity import check_candidate
from nas_compress.values.candidate import Candidate, LossTerm, Quantization, Teaching, cross_entropy, distillation
from nas_compress.values.precision import Precision
from nas_compress.values.teaching import SCHEMES

KD = distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0)
BASE = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5, losses=KD)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path_factory.getbasetemp() / "teaching"))


@pytest.mark.parametrize(
    "teaching",
    [
        Teaching(checkpoint=0.25),
        Teaching(teacher="ensemble", members=2),
        pytest.param(Teaching(teacher="ensemble", members=2, average="logits"), marks=pytest.mark.slow),
        Teaching(teacher="assistant"),
        Teaching(teacher="born_again"),
        Teaching(teacher="mutual", peers=2, peer_width=0.5),
        Teaching(teacher="mutual", peer_family="mobilenet", peer_width=2.0),
        Teaching(annealing=True),
        Teaching(soft_stop=0.5),
    ],
    ids=lambda teaching: (
        f"{teaching.teacher}-{teaching.average or teaching.peer_family or ''}{teaching.annealing}{teaching.soft_stop}"
    ),
)
@pytest.mark.parametrize(
    "losses",
    [pytest.param(KD, marks=pytest.mark.slow), (*KD, LossTerm(name="fitnet"), LossTerm(name="rkd_distance"))],
    ids=["logits", "features"],
)
def test_every_teacher_goes_with_every_kind_of_term(
    teaching: Teaching, losses: tuple[LossTerm, ...], context: TrialContext, tmp_path: Path
) -> None:
    outcome = run_trial(replace(BASE, losses=losses, teaching=teaching), context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason
    assert outcome.trainings == teaching.trainings
    assert outcome.epochs_spent == teaching.trainings * outcome.epochs + outcome.teacher_epochs
    others = {"peers"} if teaching.teacher == "mutual" else set()
    assert set(outcome.losses) == {term.name for term in losses} | others


@pytest.mark.parametrize("teaching", [Teaching(soft_stop=0.5), Teaching(annealing=True)], ids=["stopped", "annealed"])
def test_the_teacher_may_fall_silent_where_features_are_all_that_it_gives(
    teaching: Teaching, context: TrialContext, tmp_path: Path
) -> None:
    losses = (*cross_entropy(), LossTerm(name="rkd_distance"))
    outcome = run_trial(replace(BASE, losses=losses, teaching=teaching), context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained", outcome.reason


def test_adaptation_layers_learn_and_never_ship(context: TrialContext, tmp_path: Path) -> None:
    plain, hinted = tmp_path / "plain.onnx", tmp_path / "hinted.onnx"
    run_trial(BASE, context, seed=0, model=plain)
    outcome = run_trial(replace(BASE, losses=(*KD, LossTerm(name="fitnet"))), context, seed=0, model=hinted)
    assert outcome.measured is not None
    assert hinted.stat().st_size == plain.stat().st_size == outcome.measured.figures["size_bytes"]
    assert hinted.read_bytes() != plain.read_bytes()


def test_an_earlier_teacher_is_less_sure_and_made_without_another_training(context: TrialContext) -> None:
    teacher = context.teacher
    quarter, half = earlier(teacher, 0.25), earlier(teacher, 0.5)
    assert earlier(teacher, 1.0) is teacher and earlier(teacher, 0.5) is half
    labels = teacher.train_samples.targets["label"]

    def loss(who: Teacher) -> float:
        return float(torch.nn.functional.cross_entropy(who.answers[0].float(), labels))

    assert loss(quarter) > loss(half) > loss(teacher)
    assert len({who.fingerprint for who in (quarter, half, teacher)}) == 3


def test_members_differ_and_their_answers_stand_side_by_side(context: TrialContext) -> None:
    second = member(context.teacher, 1)
    assert member(context.teacher, 0) is context.teacher and member(context.teacher, 1) is second
    supervision = find_supervision(replace(BASE, teaching=Teaching(teacher="ensemble", members=2)), context)
    assert supervision.answers is not None and supervision.answers.shape[2] == 2
    assert torch.equal(supervision.answers[:, :, 0], context.teacher.answers)
    assert torch.equal(supervision.answers[:, :, 1], second.answers)
    assert not torch.equal(second.answers, context.teacher.answers)
    logits = find_supervision(
        replace(BASE, teaching=Teaching(teacher="ensemble", members=2, average="logits")), context
    )
    assert logits.answers is not None and logits.answers.ndim == 3


def test_an_assistant_is_smaller_and_kept_for_the_next_process(context: TrialContext, tmp_path: Path) -> None:
    candidate = replace(BASE, teaching=Teaching(teacher="assistant", assistant_size=0.4))
    costs = [run_trial(candidate, context, seed=0, model=tmp_path / "m.onnx").teacher_epochs for _ in range(2)]
    assert costs == [context.teacher.section.epochs, 0]  # the trial that needs it first pays for it
    made = assistant(context.teacher, 0.4)

    def count(who: Teacher) -> int:
        return sum(parameter.numel() for parameter in who.network.parameters())

    assert 0 < count(made) < 0.5 * count(context.teacher)
    file = made.folder / "teacher.safetensors"
    before = file.stat().st_mtime_ns
    again = assistant(replace(context.teacher), 0.4)  # a teacher that remembers nothing, as in another process
    assert again is not made and file.stat().st_mtime_ns == before
    torch.testing.assert_close(again.answers, made.answers)
    # a trained teacher's fingerprint tells how it was trained; that of a user's own teacher does not
    given = replace(context.teacher, family=None)
    changes: tuple[dict[str, object], ...] = ({}, {"precision": "float32"}, {"weight_decay": 0.5})
    trainings = (given.training.model_copy(update=change) for change in changes)
    made_by = {assistant(replace(given, training=training), 0.4).fingerprint for training in trainings}
    assert len(made_by) == len(changes)


@pytest.mark.slow
def test_a_trial_has_the_same_bytes_if_its_assistant_is_trained_read_or_remembered(
    context: TrialContext, tmp_path: Path
) -> None:
    losses = (*KD, LossTerm(name="permuted_kd"), LossTerm(name="fitnet"))  # they draw random numbers
    candidate = replace(BASE, losses=losses, teaching=Teaching(teacher="assistant", assistant_size=0.3))
    files = []
    for teacher in (context.teacher, context.teacher, replace(context.teacher)):
        files.append(tmp_path / f"{len(files)}.onnx")
        run_trial(candidate, replace(context, teacher=teacher), seed=0, model=files[-1])
    assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()


def test_generations_are_an_ensemble_of_its_own_kind(context: TrialContext, tmp_path: Path) -> None:
    candidate = replace(BASE, teaching=Teaching(teacher="born_again", generations=3))
    outcome = run_trial(candidate, context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.measured is not None
    summary = json.loads((tmp_path / "ensemble.json").read_text())
    files = [tmp_path / name for name in summary["members"]]
    assert [path.name for path in files] == ["generation-1.onnx", "generation-2.onnx", "model.onnx"]
    assert (
        summary["size_bytes"] == sum(path.stat().st_size for path in files) > 2 * outcome.measured.figures["size_bytes"]
    )
    inputs = context.dataset.validation.inputs["input"].numpy()
    answers = [torch.tensor(predict_logits(path, inputs)).softmax(dim=1) for path in files]
    together = torch.stack(answers).mean(dim=0).argmax(dim=1)
    labels = context.dataset.validation.targets["label"]
    assert summary["accuracy"] == pytest.approx(float((together == labels).float().mean()))
    assert not torch.equal(answers[0], answers[1]) and not torch.equal(answers[1], answers[2])


def test_peers_differ_from_the_student_and_leave_the_random_state_alone(context: TrialContext) -> None:
    candidate = replace(BASE, teaching=Teaching(teacher="mutual", peers=2))
    torch.manual_seed(3)
    student = build_student(student_architecture(candidate, context, seed=3))
    state = torch.get_rng_state()
    build = partial(context.teacher.build, student_architecture(candidate, context, seed=3))
    first, second = fresh_networks(build, 2, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    flat = [torch.cat([p.detach().flatten() for p in each.parameters()]) for each in (student, first, second)]
    assert len(flat[0]) == len(flat[1]) == len(flat[2])
    assert not torch.equal(flat[0], flat[1]) and not torch.equal(flat[1], flat[2])


def test_generations_and_peers_share_the_compute_of_scratch_b(context: TrialContext, tmp_path: Path) -> None:
    section = context.training.model_copy(update={"budget": "scratch_b", "cap": 8.0})
    rich = replace(context, training=section, teacher_macs=context.teacher_macs * 3)
    alone = run_trial(BASE, rich, seed=0, model=tmp_path / "a.onnx")
    candidate = replace(BASE, teaching=Teaching(teacher="mutual"))
    together = run_trial(candidate, rich, seed=0, model=tmp_path / "b.onnx")
    assert alone.epochs // 2 == together.epochs > 1


@pytest.mark.parametrize(
    ("student", "peers", "shape"),
    [
        ({}, {}, ("resnet", (1, 1, 1), 1)),
        ({"stem_stride": 2}, {"peer_depths": (2, 1, 1)}, ("resnet", (2, 1, 1), 2)),
        ({"stem_stride": 2, "init": "inherit"}, {"peer_family": "vit"}, ("vit", (4,), 1)),
        ({"weight_bits": 8, "activation_bits": 8}, {"peer_family": "pruned"}, ("pruned", (), 1)),
        ({"family": "vit", "depths": (2,), "heads": 2}, {"peer_family": "mobilenet"}, ("mobilenet", (1, 1, 1), 1)),
    ],
    ids=["same", "deeper", "transformer", "pruned", "convolutional"],
)
def test_peers_have_the_shape_that_is_asked_for(
    student: dict[str, Any], peers: dict[str, Any], shape: tuple[object, ...], context: TrialContext, tmp_path: Path
) -> None:
    candidate = replace(BASE, **student, teaching=Teaching(teacher="mutual", peers=2, **peers))
    described = peer_of(candidate, OnnxruntimeCpu())
    stem_stride = getattr(described.shape.settings, "stem_stride", 1)
    assert (described.shape.family, described.shape.depths, stem_stride) == shape
    assert described.precision == Precision() and described.pruning.init == "scratch"
    checked = candidate_rules(context, seed=0).require(candidate)
    assert checked.peer is not None
    macs = count_macs(context.teacher.build(checked.peer), context.dataset.train.first(1).inputs)
    assert macs_together(checked, 1000, context) == 1000 + 2 * macs
    student_macs = image_macs(build_student(student_architecture(BASE, context, seed=0)), (1, 8, 8))
    assert (macs == student_macs) == (not student and not peers)


def test_each_network_of_a_mixed_pair_looks_at_the_other(context: TrialContext) -> None:
    """The student's adaptation layer has the peer's width, and the peer's has the student's."""
    losses = (*KD, LossTerm(name="fitnet"))
    candidate = replace(BASE, losses=losses, teaching=Teaching(teacher="mutual", peer_width=2.0))
    student = build_student(student_architecture(candidate, context, seed=0))
    peer = candidate_rules(context, seed=0).require(candidate).peer
    objective = objective_of(candidate, student, find_supervision(candidate, context), context, seed=0, peer=peer)
    shapes = [tuple(each.adapters["fitnet"].regressor[0].weight.shape[:2]) for each in objective.learners[1:]]
    assert shapes[0] == shapes[1][::-1] and shapes[0][0] == 2 * shapes[0][1]


def test_peers_without_labels_have_nothing_to_learn_from_each_other() -> None:
    losses = (LossTerm(name="label_refinery"), LossTerm(name="rkd_angle"))
    with pytest.raises(RequestError, match=r"mutual learning needs a term on labels, .* got label_refinery, rkd_angle"):
        check_candidate(replace(BASE, losses=losses, teaching=Teaching(teacher="mutual")))
    check_candidate(replace(BASE, losses=losses, teaching=Teaching(teacher="born_again")))


@pytest.mark.parametrize(
    "teaching", [Teaching(teacher="mutual"), Teaching(annealing=True), Teaching(checkpoint=0.5)], ids=str
)
def test_a_teaching_without_a_term_on_the_teacher_is_refused(teaching: Teaching) -> None:
    with pytest.raises(RequestError, match=r"teaching needs a term on the teacher among the losses .* cross_entropy"):
        check_candidate(replace(BASE, losses=cross_entropy(), teaching=teaching))


def apprentice(scheme: str) -> Candidate:
    return replace(
        BASE,
        width_multiplier=0.25,
        weight_bits=2,
        activation_bits=8,
        quantization=Quantization(method="lsq"),
        teaching=Teaching(teacher="apprentice", scheme=scheme),
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_apprentice_of_each_scheme_ships_with_few_bits(scheme: str, context: TrialContext, tmp_path: Path) -> None:
    candidate, model = apprentice(scheme), tmp_path / "model.onnx"
    section = context.training.model_copy(update={"epochs": 2})
    outcome = run_trial(candidate, replace(context, training=section), seed=0, model=model)
    assert outcome.state == "trained" and outcome.measured is not None, outcome.reason
    assert outcome.trainings == {"joint": 2, "fixed": 1, "fine_tuned": 2}[scheme]
    assert outcome.epochs_spent == 2 * outcome.trainings
    assert set(outcome.losses) == {term.name for term in KD} | ({"peers"} if scheme == "joint" else set())
    assert ("weights of a float training" in outcome.control) == (scheme == "fine_tuned")
    assert not float_kernels(model) and outcome.measured.figures["size_bytes"] < outcome.measured.figures["parameters"]
    assert "accuracy" in outcome.measured.figures and outcome.measured.figures["accuracy"] > 0.3


def test_a_teacher_beside_the_student_starts_afresh_and_counts_in_the_budget(context: TrialContext) -> None:
    first, second = fresh_networks(context.teacher.make, 2, seed=0)
    states = [torch.cat([p.detach().flatten() for p in each.parameters()]) for each in (first, second)]
    known = torch.cat([p.detach().flatten() for p in context.teacher.network.parameters()])
    assert len(states[0]) == len(known)
    assert not torch.equal(states[0], states[1]) and not torch.equal(states[0], known)
    rules = candidate_rules(context, seed=0)
    assert macs_together(rules.require(apprentice("joint")), 10, context) == 10 + context.teacher_macs
    assert macs_together(rules.require(apprentice("fine_tuned")), 10, context) == 20


def test_an_apprentice_must_round_in_training() -> None:
    with pytest.raises(RequestError, match="'apprentice' needs a student that learns under rounding"):
        check_candidate(replace(BASE, teaching=Teaching(teacher="apprentice")))
