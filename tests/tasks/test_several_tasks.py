"""Several tasks of one network, by hand-worked numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import Observation
from nas_compress.tasks.class_weights import draws_of, with_class_weights
from nas_compress.tasks.classification import Classification
from nas_compress.tasks.multi_label import MultiLabel
from nas_compress.tasks.regression import Regression
from nas_compress.tasks.segmentation import Segmentation
from nas_compress.tasks.several import SeveralTasks
from nas_compress.values.signature import TensorSpec, token_input
from nas_compress.values.teaching import LossTerm

ROW = (TensorSpec(name="input", dtype="float32", shape=("N", 2)),)
KIND = Classification(inputs=ROW, classes=3, lacks_labels=True)
SIZE = Regression(inputs=ROW, mean=(1.0,), std=(2.0,), lacks_labels=True)
TASK = SeveralTasks(parts=(("kind", KIND), ("size", SIZE)))

OUTPUTS = {
    "logits_kind": torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 2.0]]),
    "values_size": torch.tensor([[1.0], [3.0], [5.0], [0.0]]),
}
# the first two samples have a class, the second and third a number, the last has nothing
TARGETS = {
    "label_kind": torch.tensor([0, 2, -1, -1]),
    "targets_size": torch.tensor([[float("nan")], [5.0], [1.0], [float("nan")]]),
}
GUIDE = {
    "logits_kind": torch.tensor([[0.0, 1.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 4.0], [1.0, 2.0, 3.0]]),
    "values_size": torch.tensor([[1.0], [1.0], [3.0], [4.0]]),
}


def terms(names: list[str], targets: dict[str, Tensor], answers: Tensor) -> dict[str, Tensor]:
    loss = TrainingLoss(TASK, [LossTerm(name=name) for name in names])
    return loss(Observation(outputs=OUTPUTS), targets, answers=answers)


def test_each_task_has_an_output_and_a_target_of_its_own() -> None:
    assert TASK.signature.output_names == ("logits_kind", "values_size")
    assert [spec.name for spec in TASK.targets] == ["label_kind", "targets_size"]
    assert TASK.metrics == ("mean_score", "accuracy@kind", "r2@size", "mse@size", "mae@size")
    assert TASK.measuring(["mse@size", "size_bytes"]).metrics[0] == "mse@size"
    assert set(TASK.output_normalisation) == {"values_size"}


def test_other_figures_of_a_task_leave_its_primary_metric() -> None:
    named = TASK.measuring(["f1_macro@kind", "mae@size"])
    arrays = [{name: values.numpy() for name, values in batch.items()} for batch in (OUTPUTS, TARGETS)]
    found = named.measure(*arrays)
    assert found["f1_macro@kind"] != found["accuracy@kind"] == found["mean_score"]


def test_the_base_loss_is_the_mean_over_all_labels() -> None:
    kind = F.cross_entropy(OUTPUTS["logits_kind"][:2], torch.tensor([0, 2]), reduction="sum")
    # in deviations of 2: (3 - 5) / 2 = -1 and (5 - 1) / 2 = 2, so 1 + 4
    torch.testing.assert_close(TASK.base_loss(OUTPUTS, TARGETS), (kind + 5.0) / 4)


def test_balanced_weights_are_those_of_each_task_with_classes() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, -1])
    targets = {"label_kind": labels, "targets_size": torch.ones(6, 1)}
    task = with_class_weights(TASK, "balanced", targets, where="w")
    weights = torch.tensor([5 / 9, 5 / 3, 5 / 3])
    assert task.class_weights == pytest.approx(weights.tolist())
    outputs = {"logits_kind": torch.randn(6, 3), "values_size": torch.ones(6, 1)}
    kind = F.cross_entropy(outputs["logits_kind"][:5], labels[:5], weight=weights)
    torch.testing.assert_close(task.base_loss(outputs, targets), 5 * kind / 11)
    with pytest.raises(RequestError, match='must be "balanced" for several tasks'):
        with_class_weights(TASK, [1.0, 2.0, 3.0], targets, where="w")


def test_figures_of_a_task_are_those_of_its_samples() -> None:
    arrays = [{name: values.numpy() for name, values in batch.items()} for batch in (OUTPUTS, TARGETS)]
    found = TASK.measure(*arrays)
    assert found["accuracy@kind"] == 0.5 and found["mse@size"] == 10.0
    assert found["mean_score"] == 0.5  # regressions are reported apart
    assert TASK.chance("mean_score") == TASK.chance("accuracy@kind") == pytest.approx(1 / 3)
    assert TASK.chance("mse@size") is None and TASK.chance("latency_ms") is None


def test_a_row_of_logits_holds_classes_or_the_standardised_number() -> None:
    rows = TASK.logits(OUTPUTS)
    assert rows.shape == (4, 2, 3)
    assert torch.equal(rows[:, 0], OUTPUTS["logits_kind"])
    assert rows[:, 1, :2].tolist() == [[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, -0.5]]


def test_a_term_on_the_teacher_reads_the_samples_of_each_task_and_those_of_none() -> None:
    answers = TASK.logits(GUIDE)
    found = terms(["kd"], TARGETS, answers)["kd"]
    rows = torch.tensor([0, 1, 3])
    alone = TrainingLoss(KIND, [LossTerm(name="kd")])(
        Observation(outputs={"logits": OUTPUTS["logits_kind"][rows]}),
        {"label": TARGETS["label_kind"][rows]},
        answers=GUIDE["logits_kind"][rows],
    )["kd"]
    # of the numbers: (3 - 1) / 2, (5 - 3) / 2 and (0 - 4) / 2, squared
    torch.testing.assert_close(found, (3 * alone + 1.0 + 1.0 + 4.0) / 6)


def test_a_constant_added_to_a_row_of_answers_changes_nothing() -> None:
    answers = TASK.logits(GUIDE)
    moved = answers + torch.randn(4, 2, 1)
    torch.testing.assert_close(terms(["kd"], TARGETS, moved), terms(["kd"], TARGETS, answers))


def test_an_ensemble_is_averaged_for_each_task() -> None:
    answers = TASK.logits(GUIDE)
    twice = torch.stack([answers, answers], dim=1)
    torch.testing.assert_close(terms(["kd"], TARGETS, twice), terms(["kd"], TARGETS, answers))


@pytest.mark.parametrize("classes", [2, 8])
@pytest.mark.parametrize("name", ["kd", "dkd", "cross_entropy"])
def test_sets_of_labels_are_one_of_the_tasks(name: str, classes: int) -> None:
    labels = MultiLabel(inputs=ROW, label_count=3)
    task = SeveralTasks(parts=(("kind", Classification(inputs=ROW, classes=classes)), ("found", labels)))
    made = torch.Generator().manual_seed(0)
    outputs, guide = (
        {"logits_kind": torch.randn(4, classes, generator=made), "logits_found": torch.randn(4, 3, generator=made)}
        for _ in range(2)
    )
    targets = {"label_kind": torch.tensor([0, 1, 1, 0]), "labels_found": torch.eye(4)[:, :3]}
    answers = torch.stack([task.logits(guide) + 1.0, task.logits(guide)], dim=1)
    found = TrainingLoss(task, [LossTerm(name=name)])(Observation(outputs=outputs), targets, answers=answers)[name]
    alone = [
        TrainingLoss(each, [LossTerm(name=name)])(
            Observation(outputs=task.outputs_of(part, outputs)),
            task.targets_of(part, targets),
            answers=each.logits(task.outputs_of(part, guide)),
        )[name]
        for part, each in task.parts
    ]
    torch.testing.assert_close(found, sum(alone) / 2)


def test_a_term_on_labels_is_that_of_each_task() -> None:
    found = terms(["cross_entropy", "task_loss"], TARGETS, TASK.logits(GUIDE))
    torch.testing.assert_close(found["cross_entropy"], found["task_loss"])


def test_a_batch_without_labels_has_no_loss_on_labels() -> None:
    nothing = {name: values[3:] for name, values in TARGETS.items()}
    loss = TrainingLoss(TASK, [LossTerm(name="cross_entropy"), LossTerm(name="task_loss")])
    found = loss(Observation(outputs={name: values[3:] for name, values in OUTPUTS.items()}), nothing)
    assert [float(value) for value in found.values()] == [0.0, 0.0]


def test_tasks_of_different_samples_are_drawn_by_their_sizes() -> None:
    # two samples of one task and 16 of the other: 2 ** 0.75 to 16 ** 0.75 = 8
    targets = {
        "label_kind": torch.tensor([0, 1, *[-1] * 16]),
        "targets_size": torch.tensor([[float("nan")]] * 2 + [[1.0]] * 16),
    }
    draws = draws_of(TASK, targets, "shuffled")
    assert draws is not None
    np.testing.assert_allclose([draws[:2].sum(), draws[2:].sum()], [2**0.75, 8.0])
    same = {"label_kind": torch.tensor([0, 1]), "targets_size": torch.tensor([[1.0], [2.0]])}
    assert draws_of(TASK, same, "shuffled") is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            replace(KIND, inputs=(replace(ROW[0], shape=("N", 3)),)),
            "same inputs and one vocabulary, but those of other",
        ),
        (Regression(inputs=ROW, mean=(0.0, 0.0), std=(1.0, 1.0)), "must have one number, but other has more"),
        (
            Segmentation(inputs=(TensorSpec(name="input", dtype="uint8", shape=("N", 1, 4, 4)),), class_count=2),
            "same inputs",
        ),
    ],
)
def test_tasks_that_share_no_network_are_refused(other: Classification, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        SeveralTasks(parts=(("kind", KIND), ("other", other)))


def test_tasks_of_different_vocabularies_are_refused() -> None:
    few, many = (Classification(inputs=(token_input(values),), classes=2) for values in (10, 20))
    with pytest.raises(RequestError, match="one vocabulary"):
        SeveralTasks(parts=(("first", few), ("second", many)))
