from __future__ import annotations

import copy
import inspect
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.data.augment.choose import Drawing, drawn
from nas_compress.data.augment.shift_and_flip import ShiftAndFlip
from nas_compress.data.dataset import Split
from nas_compress.errors import NonFiniteLossError, RequestError
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.tasks.batch import Batch
from nas_compress.tasks.classification import Classification
from nas_compress.training.loop import _optimizer, train
from nas_compress.training.objective import LossObjective, TrainingObjective
from nas_compress.training.runtime import choose_device
from nas_compress.values.candidate import distillation

COUNT, BATCH, CLASSES = 40, 8, 3
TASK = Classification.of_images(shape=(1, 4, 4), classes=CLASSES)
VIEWS = ShiftAndFlip(shift=1, flip=True)


def noise(count: int = COUNT) -> Split:
    random = torch.Generator().manual_seed(0)
    return Split(
        name="train",
        inputs={"input": torch.randint(0, 17, (count, 1, 4, 4), generator=random, dtype=torch.uint8)},
        targets={"label": torch.randint(CLASSES, (count,), generator=random)},
    )


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, CLASSES)
        self.seen: list[Tensor] = []

    def forward(self, samples: Tensor) -> Tensor:
        if self.training:
            self.seen.append(samples.clone())
        return self.out(torch.relu(self.norm(self.conv(samples.float() / 16))).mean((2, 3)))


Function = Callable[[Tensor, Tensor, "Tensor | None"], dict[str, Tensor]]


class Bare:
    """An objective that is a function of the logits, the labels and the stored answers."""

    learners = ()

    def __init__(self, function: Function, answers: Tensor | None = None) -> None:
        self.function, self.answers = function, answers

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        answers = None if self.answers is None else self.answers[view][index]
        return self.function(model(batch["input"]), targets["label"], answers)


def plain(student: Tensor, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
    return {"cross_entropy": F.cross_entropy(student, labels)}


def run(
    model: nn.Module, samples: Split, loss: Function | TrainingObjective = plain, seed: int = 0, **changes
) -> dict[str, float]:
    objective = Bare(loss) if inspect.isfunction(loss) else loss
    settings = {"epochs": 2, "batch_size": BATCH, "learning_rate": 0.05, "weight_decay": 0.01}
    return train(model, samples, VIEWS, objective=objective, seed=seed, **{**settings, **changes})


def weights(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_seed_decides_everything() -> None:
    results = []
    for seed in (1, 1, 2):
        model = Small()
        torch.manual_seed(len(results))  # torch's global state plays no part
        losses = run(model, noise(), seed=seed)
        results.append((weights(model), losses))
    assert same(results[0][0], results[1][0]) and results[0][1] == results[1][1]
    assert not same(results[0][0], results[2][0])


def test_it_learns_and_ends_in_eval_mode() -> None:
    samples = Split(
        name="train",
        inputs={"input": torch.arange(0, 240, 6, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(COUNT, 1, 4, 4)},
        targets={"label": (torch.arange(COUNT) >= 20).long()},
    )
    model, first = Small(), []
    last = run(model, samples, epochs=15, on_epoch=lambda done, terms: first.append(terms["cross_entropy"]))
    assert last["cross_entropy"] < 0.4 < 0.6 < first[0]
    assert len(first) == 15 and first[-1] == last["cross_entropy"]
    assert not any(module.training for module in model.modules())


def test_every_epoch_takes_each_sample_at_most_once_and_drops_the_rest() -> None:
    samples = Split(
        name="train",
        inputs={"input": torch.arange(1, 21, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(20, 1, 4, 4)},
        targets={"label": torch.zeros(20, dtype=torch.int64)},
    )
    model = Small()
    run(model, samples, epochs=3)
    assert [len(batch) for batch in model.seen] == [BATCH] * 2 * 3
    epochs = [torch.cat(model.seen[start : start + 2])[:, 0, 2, 2].tolist() for start in (0, 2, 4)]
    assert all(len(set(taken)) == 16 for taken in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_larger_than_the_data_is_all_of_it() -> None:
    model = Small()
    run(model, noise(5), batch_size=100)
    assert [len(batch) for batch in model.seen] == [5, 5]


def test_kept_answers_are_those_of_the_view_and_the_sample() -> None:
    """Sample i is i + 1 wherever it is not padding; its kept answer in view v is (1000 v + i, ...)."""
    count = 24
    column = torch.tensor([1, 2, 3, 4], dtype=torch.uint8).reshape(1, 1, 1, 4)  # so that a mirror shows
    images = (torch.arange(count, dtype=torch.uint8) * 5).reshape(-1, 1, 1, 1) + column.expand(count, 1, 4, 4)
    samples = Split(name="train", inputs={"input": images}, targets={"label": torch.arange(count) % CLASSES})
    code = torch.arange(VIEWS.count).reshape(-1, 1, 1) * 1000.0 + torch.arange(count).reshape(1, -1, 1)
    views = VIEWS.over(samples.inputs)
    model, seen = Small(), []

    def probe(student: Tensor, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        assert teacher is not None and teacher.shape == (BATCH, CLASSES)
        view, index = (teacher[:, 0] // 1000).long(), (teacher[:, 0] % 1000).long()
        assert len(set(view.tolist())) == 1
        assert torch.equal(labels, samples.targets["label"][index])
        assert torch.equal(model.seen[-1], views.batch(index, int(view[0]))["input"])
        seen.append(int(view[0]))
        return plain(student, labels, teacher)

    run(model, samples, Bare(probe, code.expand(-1, -1, CLASSES)), epochs=30)
    assert set(seen) == set(range(VIEWS.count))


def test_distillation_brings_the_student_to_the_teacher() -> None:
    samples = noise()
    answers = torch.tensor([4.0, 0.0, -4.0]).expand(VIEWS.count, COUNT, CLASSES)
    loss = TrainingLoss(TASK, distillation(hard_weight=0, soft_weight=1, temperature=2))
    model = Small()
    assert run(model, samples, LossObjective(loss, answers=answers.half()), epochs=15)["kd"] < 0.05
    assert bool((model(samples.inputs["input"]).argmax(dim=1) == 0).all())


class StopError(Exception):
    pass


def test_what_on_epoch_raises_ends_the_training() -> None:
    model = Small()

    def stop(done: int, terms: dict[str, float]) -> None:
        if done == 2:
            raise StopError

    with pytest.raises(StopError):
        run(model, noise(), epochs=9, on_epoch=stop)
    assert len(model.seen) == 2 * (COUNT // BATCH)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("broken", [0, 7, 9])
def test_a_loss_that_is_not_finite_is_named_with_its_step(value: float, broken: int) -> None:
    steps = iter(range(1000))

    def loss(student: Tensor, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        bad = student.sum() * 0 + (value if next(steps) == broken else 1.0)
        return {"good": (student * 0).sum(), "bad": bad}

    with pytest.raises(
        NonFiniteLossError, match=rf"^every loss term must be finite, but at step {broken}: bad = {value}"
    ):
        run(Small(), noise(), loss, epochs=2)


def test_only_matrices_are_decayed() -> None:
    model = Small()
    with torch.no_grad():
        model.out.bias.fill_(3.0)
    before = weights(model)
    flat = lambda student, labels, teacher: {"none": (student * 0).sum()}  # noqa: E731
    run(model, noise(), flat, weight_decay=0.5)
    after = weights(model)
    assert torch.equal(after["out.bias"], before["out.bias"])
    assert torch.equal(after["norm.weight"], before["norm.weight"])
    assert float(after["conv.weight"].norm()) < 0.99 * float(before["conv.weight"].norm())


def test_frozen_parameters_stay() -> None:
    model = Small()
    model.conv.requires_grad_(False)
    before = weights(model)
    run(model, noise())
    assert torch.equal(model.conv.weight, before["conv.weight"])
    assert not torch.equal(model.out.weight, before["out.weight"])


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch_size": 0}])
def test_no_training_at_all_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(RequestError, match=r"epochs >= 1 and batch_size >= 1 must hold, but got .*=0"):
        run(Small(), noise(), **change)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    if torch.cuda.is_available():
        assert choose_device("auto").type == choose_device("cuda").type == "cuda"
        return
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(RequestError, match="device = 'cuda' needs a GPU"):
        choose_device("cuda")


def test_epochs_of_drawn_views_take_them_in_turn_from_the_first_epoch() -> None:
    samples = noise(8)
    augmentation = drawn(VIEWS, Drawing(mixup=1.0, views=3), task=TASK, seed=5)
    views, everything, seen = augmentation.over(samples.inputs), torch.arange(8), []
    expected = [views.batch(everything, view)["input"] for view in (2, 0, 1)]

    def soft(student: Tensor, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        seen.append(labels)
        return plain(student, labels, teacher)

    model = Small()
    train(
        model, samples, augmentation, objective=Bare(soft), epochs=3, batch_size=8, learning_rate=0.01,
        weight_decay=0.0, seed=0, first_epoch=2,
    )  # fmt: skip
    for view, (found, whole) in zip((2, 0, 1), zip(model.seen, expected, strict=True), strict=True):
        order = [int((whole == image).flatten(1).all(dim=1).nonzero()[0]) for image in found]
        assert sorted(order) == list(range(8))
        assert torch.equal(seen.pop(0), views.targets(samples.targets, torch.tensor(order), view)["label"])


IMPORTS = """
import sys
import torch
from nas_compress.training.loop import _optimizer
model = torch.nn.Linear(3, 2)
with _optimizer(model, 0.1, torch.contiguous_format) as optimizer:
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules
"""


def test_no_compiler_is_imported() -> None:
    """An import of torch._dynamo takes 2 seconds of each process that trains."""
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


def test_its_optimizer_equals_that_of_torch() -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    with _optimizer(ours, 0.1, torch.contiguous_format) as optimizer:
        groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
        torchs = torch.optim.AdamW(groups, lr=0.1, fused=True)
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        for step in range(5):
            samples = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
            for network, each in ((ours, optimizer), (theirs, torchs)):
                each.zero_grad(set_to_none=False)
                network(samples).square().sum().backward()
                each.step()
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)
