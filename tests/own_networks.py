"""Small networks as people bring them: raw uint8 (N, 1, 8, 8) in, 10 logits out, layers of many kinds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

SHAPE = (1, 8, 8)


class Own(nn.Module):
    """Normalised pixels."""

    def pixels(self, samples: Tensor) -> Tensor:
        return samples.float() / 16

    def rows(self, samples: Tensor) -> Tensor:
        return self.pixels(samples).squeeze(1)


class Padded(Own):
    """Padding other than zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 24, 3, padding=1, padding_mode="reflect")
        self.second = nn.Conv2d(24, 24, 3, padding=1, padding_mode="circular")
        self.third = nn.Conv2d(24, 24, 3, padding=1, padding_mode="replicate")
        self.head = nn.Linear(24, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = self.third(self.second(self.first(self.pixels(samples)).relu()).relu()).relu()
        return self.head(values.mean((2, 3)))


class Standardised(nn.Conv2d):
    """A convolution with standardised weights (BiT, NFNet)."""

    def forward(self, values: Tensor) -> Tensor:
        weight = self.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(values, weight, self.bias, self.stride, self.padding)


class WeightStandardised(Own):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Standardised(1, 32, 3, padding=1), Standardised(32, 32, 3, padding=1)
        self.third, self.head = Standardised(32, 32, 3), nn.Linear(32, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = self.third(self.second(self.first(self.pixels(samples)).relu()).relu()).relu()
        return self.head(values.mean((2, 3)))


class Dimensions(Own):
    """Convolutions of one and three dimensions, and transposed ones."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.wide = nn.Conv1d(8, 32, 3, padding=1), nn.ConvTranspose1d(32, 32, 2, 2)
        self.space, self.large = nn.Conv3d(1, 16, 3, padding=1), nn.ConvTranspose3d(16, 16, 2, 2, groups=2)
        self.up, self.head = nn.ConvTranspose2d(16, 24, 2, 2), nn.Linear(56, 10)

    def forward(self, samples: Tensor) -> Tensor:
        rows = self.wide(self.line(self.rows(samples)).relu()).relu()
        cube = self.large(self.space(self.pixels(samples).unsqueeze(1)).relu()).mean(2)
        return self.head(torch.cat([rows.mean(2), self.up(cube.relu()).mean((2, 3))], dim=1))


class Encoder(Own):
    """Layers of torch that read each other's parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 32, 2, 2)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=first)
            for first in (True, False)
        )
        self.attention, self.head = nn.MultiheadAttention(32, 4, batch_first=True), nn.Linear(32, 10)

    def forward(self, samples: Tensor) -> Tensor:
        tokens = self.patch(self.pixels(samples)).flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        mixed, _ = self.attention(tokens, tokens, tokens)
        return self.head(mixed.mean(1))


class Bare(Own):
    """Parameters without a layer in functions and products, and a position that is only added."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(32, 1, 3, 3) * 0.3)
        self.position = nn.Parameter(torch.randn(32, 8, 8) * 0.02)
        self.mixer, self.experts = nn.Parameter(torch.randn(32, 48) * 0.2), nn.Parameter(torch.randn(2, 48, 48) * 0.1)
        self.classes = nn.Parameter(torch.randn(10, 48) * 0.2)

    def forward(self, samples: Tensor) -> Tensor:
        values = (F.conv2d(self.pixels(samples), self.kernel, padding=1) + self.position).relu()
        values = torch.einsum("nd,kde->nke", values.mean((2, 3)) @ self.mixer, self.experts).mean(1)
        return 10 * F.linear(F.normalize(values), F.normalize(self.classes))


class Tied(Own):
    """One table for look-ups and products, a layer whose weight another one uses, and a subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner = nn.Embedding(17, 48), nn.Linear(48, 48)
        self.outer = nn.Linear(48, 17)
        self.outer.weight = self.table.weight
        self.head = type("Classifier", (nn.Linear,), {})(17, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = self.table(samples.flatten(1).long())
        values = F.linear(values.relu(), self.inner.weight.T).mean(1)
        return self.head(self.outer(values.to(self.inner.weight.dtype)))


class Recurrent(Own):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.LSTM(8, 32, batch_first=True, bidirectional=True)
        self.one, self.head = nn.GRU(64, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, samples: Tensor) -> Tensor:
        return self.head(self.one(self.both(self.rows(samples))[0])[0].mean(1))


class Normed(Own):
    """Weights as functions of parameters: the old and the new weight norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv2d(1, 32, 3, padding=1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.second = nn.utils.weight_norm(nn.Conv2d(32, 32, 3, padding=1))
        self.third, self.head = weight_norm(nn.Conv2d(32, 32, 3)), nn.Linear(32, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = self.third(self.second(self.first(self.pixels(samples)).relu()).relu())
        return self.head(values.mean((2, 3)))


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "padded": Padded,
    "standardised": WeightStandardised,
    "dimensions": Dimensions,
    "encoder": Encoder,
    "bare": Bare,
    "tied": Tied,
    "recurrent": Recurrent,
    "normed": Normed,
}
