"""Networks of shapes only have no values, and cost no seconds of imports."""

from __future__ import annotations

import subprocess
import sys

import torch

from nas_compress.models.shapes_only import shapes_only

CODE = """
import sys
import torch
from torch import nn
from nas_compress.models.shapes_only import shapes_only
with shapes_only():
    network = nn.Sequential(nn.Embedding(3, 4), nn.Conv2d(3, 4, 3), nn.LSTM(3, 4))
    nn.init.kaiming_normal_(network[1].weight)
    nn.init.trunc_normal_(network[0].weight)
    nn.init.orthogonal_(network[2].weight_hh_l0)
    with torch.device("cpu"):
        assert nn.init.normal_(torch.zeros(100), std=2.0).std() > 1.0, "others draw as always"
assert all(each.is_meta for each in network.parameters())
assert "torch._dynamo" not in sys.modules
"""


def test_no_values_are_drawn_and_no_compiler_is_imported() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True)


def test_what_computes_on_such_tensors_still_does() -> None:
    with shapes_only():
        values = torch.zeros(2, 3).normal_()
        assert (values @ torch.ones(3, 4)).shape == (2, 4)
