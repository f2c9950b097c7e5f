"""Your own teachers. A teacher takes raw uint8 samples (N, C, H, W) and returns logits (N, classes)."""

from torch import nn
from torch.nn import functional as F


class Plain(nn.Module):
    """A small convolutional network with a scaled input."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.head = nn.Linear(64 * 4, 10)

    def forward(self, samples):
        hidden = F.max_pool2d(F.relu(self.first(samples.float() / 16)), 2)
        return self.head(F.max_pool2d(F.relu(self.second(hidden)), 2).flatten(1))


def build():
    """Build the plain teacher."""
    return Plain()


class Prepared(nn.Module):
    """Wrap a network for normalised float images of three channels, as in torchvision and timm."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, samples):
        return self.network((samples.float() / 16 - 0.5).div(0.25).expand(-1, 3, -1, -1))


def build_prepared():
    """Build such a network; use `torchvision.models.resnet18(num_classes=10)` or `timm.create_model(...)` here."""
    block = [nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    return Prepared(nn.Sequential(*block, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32 * 4, 10)))
