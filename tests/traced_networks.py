"""Networks without activation points, one for each way that people connect layers; raw inputs, 10 outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE, VECTOR, SERIES = (1, 8, 8), (16,), (6, 32)


def unit(inputs: int, outputs: int, kernel: int = 3, *, groups: int = 1, act: type[nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        act(),
    )


class Own(nn.Module):
    shape: tuple[int, ...] = IMAGE

    def pixels(self, samples: Tensor) -> Tensor:
        return samples.float() / 16


class Block(nn.Module):
    """Two convolutions and a shortcut, with functions in place of modules and a sum in place."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.second, self.second_norm = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = None
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, values: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(values)), inplace=True)
        inner = F.dropout(self.second_norm(self.second(inner)), 0.1, self.training)
        inner += values if self.shortcut is None else self.shortcut(values)
        return F.relu(inner)


class Residual(Own):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = unit(1, 16), nn.MaxPool2d(2)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 24, 2))
        self.head = nn.Linear(24, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = self.blocks(self.pool(self.stem(self.pixels(samples))))
        return self.head(F.adaptive_avg_pool2d(values, 1).view(samples.size(0), -1))


class Gated(Own):
    """Squeeze and excitation, by convolutions and by linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.second = unit(1, 16), unit(16, 16)
        self.down, self.up = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.narrow, self.wide, self.head = nn.Linear(16, 8), nn.Linear(8, 16), nn.Linear(16, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = self.stem(self.pixels(samples))
        values = values * torch.sigmoid(self.up(self.down(values.mean((2, 3), keepdim=True)).relu()))
        values = self.second(values)
        gate = F.hardsigmoid(self.wide(F.relu(self.narrow(values.mean((2, 3))))))
        return self.head((values * gate[:, :, None, None]).mean([-2, -1]))


class Depthwise(Own):
    """Inverted residuals with hardswish, SiLU and a clipped ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = unit(1, 16, act=nn.Hardswish)
        self.inner = nn.Sequential(unit(16, 32, 1, act=nn.ReLU6), unit(32, 32, groups=32, act=nn.SiLU))
        self.outer, self.head = nn.Sequential(*list(unit(32, 16, 1))[:2]), nn.Linear(16, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = self.stem(self.pixels(samples))
        values = values + self.outer(self.inner(values))
        return self.head(torch.flatten(F.avg_pool2d(values, 8), 1))


class Dense(Own):
    """Concatenations, and normalisation before the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(16 + 8 * number) for number in range(3))
        self.layers = nn.ModuleList(nn.Conv2d(16 + 8 * number, 8, 3, padding=1) for number in range(2))
        self.head = nn.Linear(32, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = self.stem(self.pixels(samples))
        for norm, layer in zip(self.norms, self.layers, strict=False):
            values = torch.cat([values, layer(F.relu(norm(values)))], 1)
        return self.head(F.relu(self.norms[2](values)).mean((2, 3)))


class Table(Own):
    """A perceptron with a residual sum on rows of numbers."""

    shape = VECTOR

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Linear(32, 32)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(32, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = F.relu(self.norm(self.first(samples)))
        return self.head(values + self.drop(F.gelu(self.second(values))))


class Series(Own):
    """Convolutions over time."""

    shape = SERIES

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(6, 16, 5, padding=2, bias=False), nn.BatchNorm1d(16)
        self.second, self.third = nn.Conv1d(16, 16, 3, padding=2, dilation=2), nn.Conv1d(16, 24, 3, stride=2)
        self.head = nn.Linear(24, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = F.relu(self.norm(self.first(samples)))
        values = F.max_pool1d(F.relu(self.second(values) + values), 2)
        return self.head(F.relu(self.third(values)).mean(2))


class Encoder(Own):
    """Layers of torch with attention, on rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(8, 16), nn.Parameter(torch.randn(1, 9, 16) * 0.1)
        self.token = nn.Parameter(torch.randn(1, 1, 16) * 0.1)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True, activation="gelu")
        self.layers, self.norm, self.head = nn.TransformerEncoder(layer, 2), nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, samples: Tensor) -> Tensor:
        tokens = self.embed(self.pixels(samples).squeeze(1))
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1) + self.position
        return self.head(self.norm(self.layers(tokens))[:, 0])


class Padding(nn.Conv2d):
    """A convolution of one's own that pads to the size of its input, as in networks ported from TensorFlow."""

    def forward(self, values: Tensor) -> Tensor:
        height, width = values.shape[-2:]
        missing = [max((-(-side // 2) - 1) * 2 + 3 - side, 0) for side in (width, height)]
        sides = [part for each in missing for part in (each // 2, each - each // 2)]
        return F.conv2d(F.pad(values, sides), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Padded(Own):
    """Convolutions behind padding of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = Padding(1, 16, 3, stride=2), nn.BatchNorm2d(16)
        self.turned = nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect")
        self.round, self.head = nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular"), nn.Linear(16, 10)

    def forward(self, samples: Tensor) -> Tensor:
        values = F.relu(self.norm(self.stem(self.pixels(samples))))
        values = F.relu(self.turned(values)) + F.relu(self.round(values))
        return self.head(values.mean((2, 3)))


class Standardised(nn.Conv2d):
    """A convolution with standardised weights and a gain."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.gain = nn.Parameter(torch.full((outputs, 1, 1, 1), 0.5))

    def forward(self, values: Tensor) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        rows = F.batch_norm(rows, None, None, training=True, momentum=0.0, eps=1e-5)
        weight = rows.reshape_as(self.weight) * self.gain * self.weight[0].numel() ** -0.5
        return F.conv2d(values, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class NormAct(nn.BatchNorm2d):
    """A normalisation that calls a function of torch and has an activation of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, values: Tensor) -> Tensor:
        values = F.batch_norm(
            values, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps
        )
        return self.act(values)


class Subclassed(Own):
    """Layers of one's own that call functions of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 16, 3, padding=1, bias=False), NormAct(16)
        self.body = Standardised(16, 16)
        self.head = type("Classifier", (nn.Linear,), {"forward": _classify})(16, 10)

    def forward(self, samples: Tensor) -> Tensor:
        return self.head(F.relu(self.body(self.norm(self.stem(self.pixels(samples))))).mean((2, 3)))


def _classify(layer: nn.Linear, values: Tensor) -> Tensor:
    return F.linear(values, layer.weight, layer.bias)


TRACED: Mapping[str, Callable[[], Own]] = {
    "residual": Residual,
    "gated": Gated,
    "depthwise": Depthwise,
    "dense": Dense,
    "table": Table,
    "series": Series,
    "encoder": Encoder,
    "padded": Padded,
    "subclassed": Subclassed,
}


def samples_of(network: Own, count: int = 64) -> Tensor:
    """Inputs for a network, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    if network.shape == IMAGE:
        return torch.randint(0, 17, (count, *network.shape), dtype=torch.uint8, generator=generator)
    return torch.randn((count, *network.shape), generator=generator)
