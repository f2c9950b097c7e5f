"""Stored features of a teacher: the numbers of a pass on the batch, when they are used, and damaged files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.augment.drawn_views import DrawnViews
from nas_compress.data.augment.user_function import BLOCK, UserFunction
from nas_compress.data.load_dataset import load_dataset
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student, family_named
from nas_compress.models.features import ObservableNetwork, Observation
from nas_compress.teacher.features import choose
from nas_compress.teacher.features.choose import stored_features
from nas_compress.teacher.teacher import Teacher
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective, observe
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import LossTerm, cross_entropy
from teachers import small_teacher_in

BATCH = 16
MAPS = ("fitnet", "attention_transfer", "rkd_distance", "similarity_preserving")
TOKENS = ("hidden_state", "embedding", "minilm_relations", "attention_matrix")
FAMILIES = {"resnet": MAPS, "vit": TOKENS}


def teacher_of(family: str, home: Path) -> Teacher:
    """A small teacher of digits in nine views."""
    data = load_dataset(name="digits", shift=1, train_samples=60)
    widths = (8, 8, 16) if family == "resnet" else ()
    section = TeacherSection(family=family, widths=widths, epochs=1, learning_rate=1e-2)
    return small_teacher_in(home, section, data)


@pytest.fixture(scope="module", params=FAMILIES)
def teacher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return teacher_of(request.param, tmp_path_factory.mktemp(request.param))


def student_of(teacher: Teacher) -> ObservableNetwork:
    known = family_named(teacher.family or "")
    widths = tuple(
        Width(layer=layer, asked=8, channels=8) for layer, _ in known.layers(teacher.depths, known.base_widths)
    )
    torch.manual_seed(0)
    shape = Architecture.of_images(
        (1, 8, 8), classes=10, mean=5, std=6.0, family=teacher.family or "", depths=teacher.depths, widths=widths
    )
    return build_student(known.complete(shape))


def seen_by(network: torch.nn.Module, teacher: Teacher) -> Observation:
    with torch.no_grad():
        return observe(network.eval(), teacher.dataset.validation.first(2).inputs, teacher.dataset.task, relations=True)


def loss_of(teacher: Teacher, terms: tuple[str, ...], student: ObservableNetwork) -> TrainingLoss:
    torch.manual_seed(1)
    return TrainingLoss(
        teacher.dataset.task,
        (*cross_entropy(), *(LossTerm(name=name) for name in terms)),
        student=seen_by(student, teacher),
        teacher=seen_by(teacher.network, teacher),
    )


def weights_after(teacher: Teacher, terms: tuple[str, ...], *, stored: bool, epochs: int = 2) -> dict[str, Tensor]:
    """The weights of a student taught with or without stored features."""
    student = student_of(teacher)
    loss = loss_of(teacher, terms, student)
    features = stored_features(teacher, loss, seen_by(teacher.network, teacher), epochs=9, batch=BATCH)
    assert features is not None
    train(
        student,
        teacher.train_samples,
        teacher.dataset.augmentation,
        objective=LossObjective(loss, teacher=teacher.network, stored=features if stored else None),
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=1e-2,
        weight_decay=0.0,
        seed=0,
    )
    return {name: value.clone() for name, value in student.state_dict().items()}


def test_a_student_has_the_same_bits_with_and_without_stored_features(teacher: Teacher) -> None:
    for term in FAMILIES[teacher.family or ""]:
        runs, reads = (weights_after(teacher, (term,), stored=stored) for stored in (False, True))
        assert all(torch.equal(runs[name], reads[name]) for name in runs), term


def test_stored_parts_are_those_that_the_terms_read(teacher: Teacher) -> None:
    """A file has the middle stage of fitnet or the last layer of relations, not everything."""
    term = "fitnet" if teacher.family == "resnet" else "minilm_relations"
    student = student_of(teacher)
    loss, seen = loss_of(teacher, (term,), student), seen_by(teacher.network, teacher)
    found = stored_features(teacher, loss, seen, epochs=9, batch=BATCH)
    assert found is not None
    index, view = torch.tensor([3, 50, 7]), 5
    shown = found(index, view)
    with torch.no_grad():
        batch = teacher.dataset.augmentation.over(teacher.train_samples.inputs).batch(index, view)
        fresh = observe(teacher.network, batch, teacher.dataset.task, relations=True)
    assert set(shown.features) == set(loss.teacher_features) and len(shown.features) == 1
    assert set(shown.relations) == set(loss.teacher_relations)
    for name, value in shown.features.items():
        torch.testing.assert_close(value, fresh.features[name])
    for name, each in shown.relations.items():
        torch.testing.assert_close(each, fresh.relations[name])
    assert shown.patches == fresh.patches


def test_features_are_stored_only_where_one_training_gains_and_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = teacher_of("resnet", tmp_path)
    student = student_of(teacher)
    loss, seen = loss_of(teacher, ("fitnet",), student), seen_by(teacher.network, teacher)
    assert stored_features(teacher, loss, seen, epochs=8, batch=BATCH) is None  # nine views
    plain = loss_of(teacher, (), student)
    assert stored_features(teacher, plain, seen, epochs=9, batch=BATCH) is None
    with monkeypatch.context() as patch:
        patch.setattr(choose, "MOST_BYTES", 1000)
        assert stored_features(teacher, loss, seen, epochs=9, batch=BATCH) is None
    assert stored_features(teacher, loss, seen, epochs=9, batch=BATCH) is not None


def again(teacher: Teacher, notices: list[str]) -> Teacher:
    """The same teacher as another process has it, without open files."""
    return replace(teacher, notice=notices.append)


@pytest.mark.parametrize("change", ["cut", "flipped", "no description", "no lock", "other description"])
def test_a_damaged_file_is_computed_again_with_a_notice(tmp_path: Path, change: str) -> None:
    teacher = teacher_of("resnet", tmp_path)
    student = student_of(teacher)
    loss, seen = loss_of(teacher, ("fitnet",), student), seen_by(teacher.network, teacher)
    index = torch.arange(5)
    first = stored_features(teacher, loss, seen, epochs=9, batch=BATCH)
    assert first is not None
    expected = first(index, 4).features
    (path,) = teacher.folder.glob("features-*.f32")
    content, about = path.read_bytes(), path.with_suffix(".json")
    if change == "cut":
        path.write_bytes(content[:-4])
    elif change == "flipped":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif change == "no description":
        about.unlink()
    elif change == "no lock":
        about.unlink()
        path.with_suffix(".lock").unlink()
        path.with_suffix(".lock").mkdir()
    else:
        about.write_text(about.read_text().replace("fitnet", "x")[:-9])
    notices: list[str] = []
    found = stored_features(again(teacher, notices), loss, seen, epochs=9, batch=BATCH)
    assert found is not None
    for name, value in found(index, 4).features.items():
        assert torch.equal(value, expected[name])
    assert path.read_bytes() == content
    assert len(notices) == (change not in ("no description", "no lock"))
    assert all("The teacher's features are computed again." in line for line in notices)


def test_a_changed_module_with_the_same_weights_is_noticed(tmp_path: Path) -> None:
    teacher = teacher_of("resnet", tmp_path)
    loss, seen = loss_of(teacher, ("fitnet",), student_of(teacher)), seen_by(teacher.network, teacher)
    first = stored_features(teacher, loss, seen, epochs=9, batch=BATCH)
    assert first is not None
    before = first(torch.arange(5), 0).features
    plain = teacher.network.observe
    teacher.network.observe = lambda samples, **more: plain(samples // 2, **more)  # type: ignore[assignment, operator]
    found = stored_features(again(teacher, []), loss, seen, epochs=9, batch=BATCH)
    assert found is not None
    assert not any(torch.equal(value, before[name]) for name, value in found(torch.arange(5), 0).features.items())


def test_a_function_of_the_user_changes_each_block_of_samples_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def brighter(samples: Tensor, generator: torch.Generator) -> Tensor:
        calls.append(len(samples))
        return (samples + torch.randint(3, samples.shape, generator=generator)).to(samples.dtype)

    function = UserFunction(reference="own:brighter", function=brighter, of_samples=False, digest="", where="")
    data = load_dataset(name="digits", train_samples=300)
    views = DrawnViews(views=2, seed=0, transforms=(), mixing=None, task=data.task, function=function)
    section = TeacherSection(family="resnet", widths=(8, 8, 16), epochs=1, learning_rate=1e-2)
    teacher = replace(small_teacher_in(tmp_path, section, data), dataset=replace(data, augmentation=views))
    loss, seen = loss_of(teacher, ("fitnet",), student_of(teacher)), seen_by(teacher.network, teacher)
    calls.clear()
    found = stored_features(teacher, loss, seen, epochs=9, batch=BATCH)
    assert found is not None
    blocks = -(-300 // BLOCK)
    assert len(calls) <= views.count * (blocks + 1), "the last pass is filled from the first block"
    index = torch.tensor([3, 250, 7])
    with torch.no_grad():
        batch = views.over(teacher.train_samples.inputs).batch(index, 1)
        fresh = observe(teacher.network, batch, data.task)
    for name, value in found(index, 1).features.items():
        torch.testing.assert_close(value, fresh.features[name])
