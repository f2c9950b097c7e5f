"""Small modules as people bring them: raw uint8 (N, 3, 16, 16) in, 10 logits out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def cbr(inputs: int, outputs: int, size: int = 3, s: int = 1, g: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, s, size // 2, groups=g, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Base(nn.Module):
    def pixels(self, x: Tensor) -> Tensor:
        return x.float() / 255


class SpatialGate(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.gate = nn.Conv2d(2, 1, 7, padding=3)
        self.b = cbr(32, 64, s=2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(self.pixels(x))
        m = torch.cat([h.mean(1, keepdim=True), h.amax(1, keepdim=True)], 1)
        h = h * torch.sigmoid(self.gate(m))
        return self.fc(self.b(h).mean((2, 3)))


class MaskConv(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.gate = nn.Conv2d(32, 1, 1)
        self.b = cbr(32, 64, s=2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(self.pixels(x))
        h = torch.sigmoid(self.gate(h)) * h
        return self.fc(self.b(h).mean((2, 3)))


class OneOut(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.m = cbr(32, 1)
        self.b = cbr(1, 64, s=2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(self.m(self.a(self.pixels(x)))).mean((2, 3)))


class DepthMul(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.d = cbr(32, 64, g=32)
        self.b = cbr(64, 64, 1, 2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(self.d(self.a(self.pixels(x)))).mean((2, 3)))


class StemDepth1(Base):
    def __init__(self) -> None:
        super().__init__()
        self.d = cbr(3, 3, g=3)
        self.b = cbr(3, 64, 1, 2)
        self.c = cbr(64, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.c(self.b(self.d(self.pixels(x)))).mean((2, 3)))


class ResNeXt(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 64)
        self.c1 = cbr(64, 64, 1)
        self.c2 = cbr(64, 64, 3, 1, 8)
        self.c3 = nn.Sequential(nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(self.pixels(x))
        h = F.relu(h + self.c3(self.c2(self.c1(h))))
        return self.fc(h.mean((2, 3)))


class TwoGroups(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 48)
        self.c1 = cbr(48, 96, 3, 1, 4)
        self.c2 = cbr(96, 96, 3, 1, 6)
        self.fc = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.c2(self.c1(self.a(self.pixels(x)))).mean((2, 3)))


class Dense(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 32, 3, padding=1)
        self.l = nn.ModuleList()
        self.n = nn.ModuleList()
        c = 32
        for _ in range(3):
            self.n.append(nn.BatchNorm2d(c))
            self.l.append(nn.Conv2d(c, 16, 3, padding=1, bias=False))
            c += 16
        self.bn = nn.BatchNorm2d(c)
        self.fc = nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(self.pixels(x))
        for norm, layer in zip(self.n, self.l, strict=True):
            h = torch.cat([h, layer(F.relu(norm(h)))], 1)
        return self.fc(F.relu(self.bn(h)).mean((2, 3)))


class PRe(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 32, 3, padding=1)
        self.p = nn.PReLU(32)
        self.b = nn.Conv2d(32, 64, 3, padding=1)
        self.q = nn.PReLU()
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.q(self.b(self.p(self.a(self.pixels(x))))).mean((2, 3)))


class HardView(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32, s=2)
        self.b = cbr(32, 64, s=2)
        self.fc1 = nn.Linear(64 * 16, 128)
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.fc1(self.b(self.a(self.pixels(x))).view(-1, 64 * 16))))


class PixShuf(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 64, s=2)
        self.ps = nn.PixelShuffle(2)
        self.b = cbr(16, 64, s=2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(self.ps(self.a(self.pixels(x)))).mean((2, 3)))


class SpaceToDepth(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.ps = nn.PixelUnshuffle(2)
        self.b = cbr(128, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(self.ps(self.a(self.pixels(x)))).mean((2, 3)))


class CatSame(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.b = cbr(64, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(self.pixels(x))
        return self.fc(self.b(torch.cat([h, h], 1)).mean((2, 3)))


class MeanMax(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.b = cbr(32, 64)
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(self.a(self.pixels(x)))
        return self.fc(torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1))


class ConvT(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32, s=2)
        self.t = nn.ConvTranspose2d(32, 48, 2, 2)
        self.b = cbr(48, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(F.relu(self.t(self.a(self.pixels(x))))).mean((2, 3)))


class GN(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 32, 3, padding=1)
        self.g = nn.GroupNorm(8, 32)
        self.b = nn.Conv2d(32, 64, 3, padding=1)
        self.h = nn.GroupNorm(1, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.h(self.b(F.relu(self.g(self.a(self.pixels(x))))))).mean((2, 3)))


class LNfirst(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 48, 4, 4)
        self.d = nn.Conv2d(48, 48, 3, padding=1, groups=48)
        self.n = nn.LayerNorm(48)
        self.p = nn.Linear(48, 96)
        self.q = nn.Linear(96, 48)
        self.gamma = nn.Parameter(torch.ones(48) * 0.1)
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(self.pixels(x))
        r = self.d(h).permute(0, 2, 3, 1)
        r = self.gamma * self.q(F.gelu(self.p(self.n(r))))
        h = h + r.permute(0, 3, 1, 2)
        return self.fc(h.mean((2, 3)))


class SharedConv(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.c = cbr(32, 32)
        self.b = cbr(32, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(self.c(self.c(self.a(self.pixels(x))))).mean((2, 3)))


class SE1(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.q = nn.Conv2d(32, 2, 1)
        self.e = nn.Conv2d(2, 32, 1)
        self.b = cbr(32, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(self.pixels(x))
        w = torch.sigmoid(self.e(F.relu(self.q(h.mean((2, 3), keepdim=True)))))
        return self.fc(self.b(h * w).mean((2, 3)))


class ECA(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.k = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.b = cbr(32, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(self.pixels(x))
        w = h.mean((2, 3))
        w = torch.sigmoid(self.k(w[:, None])).squeeze(1)[:, :, None, None]
        return self.fc(self.b(h * w).mean((2, 3)))


class WN(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 32, 3, padding=1))
        self.b = cbr(32, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(F.relu(self.a(self.pixels(x)))).mean((2, 3)))


class NormedHead(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.b = cbr(32, 64)
        self.w = nn.Parameter(torch.randn(10, 64) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return 10 * F.linear(F.normalize(self.b(self.a(self.pixels(x))).mean((2, 3))), F.normalize(self.w))


class ConvHead(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.b = cbr(32, 64)
        self.c = nn.Conv2d(64, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(F.relu(self.c(self.b(self.a(self.pixels(x))))), 1).flatten(1)


class TwoHeads(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.b = cbr(32, 64)
        self.c = cbr(64, 64)
        self.h1 = nn.Linear(64, 10)
        self.h2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(self.a(self.pixels(x)))
        g = self.c(h)
        return (self.h1(h.mean((2, 3))) + self.h2(g.mean((2, 3)))) / 2


class BNafterCatBN1d(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.b = cbr(32, 64)
        self.bn = nn.BatchNorm1d(64)
        self.fc1 = nn.Linear(64, 48)
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.fc1(self.bn(self.b(self.a(self.pixels(x))).mean((2, 3))))))


class PosMap(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.pos = nn.Parameter(torch.randn(1, 32, 16, 16) * 0.02)
        self.b = cbr(32, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(self.a(self.pixels(x)) + self.pos).mean((2, 3)))


class Buf(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 32)
        self.register_buffer("sc", torch.rand(1, 32, 1, 1))
        self.b = cbr(32, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(self.a(self.pixels(x)) * self.sc).mean((2, 3)))


class MaxOut(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = cbr(3, 64)
        self.b = cbr(32, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(self.pixels(x))
        h = torch.max(h[:, :32], h[:, 32:])
        return self.fc(self.b(h).mean((2, 3)))


class GLU(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 64, 3, padding=1)
        self.b = cbr(32, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b(F.glu(self.a(self.pixels(x)), 1)).mean((2, 3)))


class MHA(Base):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Conv2d(3, 64, 4, 4)
        self.t = nn.ModuleList(
            [nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True, norm_first=True) for _ in range(2)]
        )
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.p(self.pixels(x)).flatten(2).transpose(1, 2)
        for t in self.t:
            h = t(h)
        return self.fc(h.mean(1))


class Reflect(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 64, 3, padding=1, padding_mode="reflect")
        self.b = nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular")
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.b(F.relu(self.a(self.pixels(x))))).mean((2, 3)))


class MyConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


class WS(Base):
    def __init__(self) -> None:
        super().__init__()
        self.a = MyConv(3, 64, 3, padding=1)
        self.b = MyConv(64, 64, 3, padding=1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.b(F.relu(self.a(self.pixels(x))))).mean((2, 3)))


class TokenMixer(Base):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 32, 4, stride=4)
        self.tokens = nn.Linear(16, 16)
        self.channels = nn.Linear(32, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(self.pixels(x)).flatten(2)
        h = h + self.tokens(h).relu()  # mixes the 16 tokens
        h = h.transpose(1, 2)
        h = h + self.channels(h).relu()
        return self.head(h.mean(1))
