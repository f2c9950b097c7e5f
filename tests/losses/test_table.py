from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from nas_compress.errors import RequestError
from nas_compress.losses.table import TERMS, check_terms, needs_teacher
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import Observation
from nas_compress.tasks.classification import Classification
from nas_compress.values.candidate import LossTerm, cross_entropy, distillation

TASK = Classification.of_images(shape=(1, 8, 8), classes=3)
STUDENT, LABELS, TEACHER = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.randn(4, 3)


def total(terms: Sequence[LossTerm], *, teacher: Tensor | None = TEACHER) -> dict[str, Tensor]:
    return TrainingLoss(TASK, terms)(Observation(outputs={"logits": STUDENT}), {"label": LABELS}, answers=teacher)


def test_weights_multiply_each_term_and_names_stay() -> None:
    light = total(distillation(hard_weight=1.0, soft_weight=1.0, temperature=3.0))
    heavy = total(distillation(hard_weight=0.5, soft_weight=2.0, temperature=3.0))
    assert list(heavy) == ["cross_entropy", "kd"]
    torch.testing.assert_close(heavy["cross_entropy"], 0.5 * light["cross_entropy"])
    torch.testing.assert_close(heavy["kd"], 2.0 * light["kd"])


def test_settings_left_out_take_the_default() -> None:
    default = TERMS["kd"].settings["temperature"].default
    plain = total([LossTerm(name="kd")])["kd"]
    said = total([LossTerm(name="kd", settings={"temperature": default})])["kd"]
    other = total([LossTerm(name="kd", settings={"temperature": default / 2})])["kd"]
    assert plain == said != other


def test_only_terms_on_the_teacher_need_it() -> None:
    mixed = distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0)
    assert needs_teacher(mixed) and not needs_teacher(cross_entropy())
    assert total(cross_entropy(), teacher=None)
    with pytest.raises(RequestError, match=r"^kd needs a teacher's answers or features, but got none$"):
        total(mixed, teacher=None)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (LossTerm(name="kdd"), r"a loss must be a known name, but got 'kdd'; did you mean 'kd'\?"),
        (LossTerm(name="kd", settings={"temprature": 2}), r"no setting 'temprature'; did you mean 'temperature'\?"),
        (LossTerm(name="cross_entropy", settings={"temperature": 2}), "loss 'cross_entropy' has no setting"),
        (LossTerm(name="kd", settings={"temperature": 0}), "0 < temperature < 1000 must hold for loss 'kd', .*=0"),
        (LossTerm(name="kd", settings={"temperature": 1e9}), r"temperature < 1000 must hold"),
        (LossTerm(name="label_smoothing", settings={"smoothing": 1}), "0 < smoothing < 1 must hold"),
        (LossTerm(name="label_smoothing", settings={"smoothing": float("nan")}), "got smoothing=nan"),
    ],
)
def test_what_no_term_takes_is_refused(term: LossTerm, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        check_terms([term])
    assert "\n" not in str(caught.value)
    with pytest.raises(RequestError):
        TrainingLoss(TASK, [term])
