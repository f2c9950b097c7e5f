from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.errors import RequestError
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.tasks.classification import Classification
from nas_compress.teacher.teacher import Teacher
from nas_compress.training.objective import LossObjective, PenalisedObjective, require_scales
from nas_compress.values.candidate import cross_entropy
from teachers import small_teacher_in


def test_its_gradient_is_the_weighted_sign_of_each_scale() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2), nn.BatchNorm1d(2, affine=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([2.0, -0.5, 1.0]))
    samples, labels = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    task = Classification.of_images(shape=(1, 1, 3), classes=2)
    objective = PenalisedObjective(LossObjective(TrainingLoss(task, cross_entropy())), 0.1)
    batch, targets = {"input": samples}, {"label": labels}
    terms = objective(network, batch, targets, view=0, index=torch.arange(4), progress=0.0)
    assert list(terms) == ["cross_entropy", "bn_sparsity"] and terms["bn_sparsity"].item() == pytest.approx(0.35)
    terms["bn_sparsity"].backward()
    torch.testing.assert_close(network[0].weight.grad, torch.tensor([0.1, -0.1, 0.1]))


def test_a_network_without_scales_is_refused() -> None:
    with pytest.raises(RequestError, match=r"batch normalisation, .* none; .* \(study.toml: teacher.bn_sparsity\)"):
        require_scales(nn.Linear(2, 2), where="study.toml: teacher.bn_sparsity")


def test_a_taught_teacher_has_smaller_scales(few_digits: Dataset, tmp_path: Path) -> None:
    def obtain(bn_sparsity: float) -> Teacher:
        section = TeacherSection(widths=(8, 8, 16), epochs=4, learning_rate=1e-2, bn_sparsity=bn_sparsity)
        return small_teacher_in(tmp_path, section, few_digits)

    free, sparse = obtain(0.0), obtain(0.1)
    sums = [torch.cat(require_scales(teacher.network)).abs().sum().item() for teacher in (free, sparse)]
    assert sums[1] < 0.8 * sums[0] and free.fingerprint != sparse.fingerprint
