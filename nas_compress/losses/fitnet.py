"""FitNets hints (Romero et al. 2015, arXiv 1412.6550, equation 3): the middle of the student learns the teacher's."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.losses.layer_matching import same_size, stages
from nas_compress.losses.term import FeatureLoss
from nas_compress.models.features import Observation


class Fitnet(FeatureLoss):
    """Mean over all elements of `(teacher - r(student))^2` at the middle stage of each.

    r is a 1x1 convolution with batch normalisation and ReLU from the student's channels to the teacher's. Where the
    grids differ, the larger is averaged. (The paper sums over channels and positions and halves: a factor of weight.)
    """

    def __init__(self, student: Observation, teacher: Observation) -> None:
        super().__init__()
        self.guided, self.hint = _middle(student), _middle(teacher)
        inputs, outputs = student.features[self.guided].shape[1], teacher.features[self.hint].shape[1]
        self.regressor = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )

    def forward(self, student: Observation, teacher: Observation) -> Tensor:
        """A scalar in float32."""
        guided, hint = same_size(student.features[self.guided].float(), teacher.features[self.hint].detach().float())
        return F.mse_loss(cast(Tensor, self.regressor(guided)).float(), hint)


def _middle(observation: Observation) -> str:
    names = stages(observation.features)
    return names[(len(names) + 1) // 2 - 1]
