"""One recurrent layer in one or both directions, as a single operator of the file.

Gates are in torch's order: input, forget, cell, output of an LSTM; reset, update, new of a GRU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

MODES = {"rnn": "RNN_TANH", "lstm": "LSTM", "gru": "GRU"}
"""Names of the cells in torch."""

KERNELS: dict[str, Any] = {"rnn": torch._VF.rnn_tanh, "lstm": torch._VF.lstm, "gru": torch._VF.gru}

PER_DIRECTION = 4
"""Tensors of a direction: weights of the inputs, weights of the state, and the bias of each."""


class RecurrentLayer(nn.RNNBase):
    """RNN (tanh), LSTM or GRU over a whole sequence, time first.

    A backward cell reads each sequence from its own last step, so padding behind it changes nothing.

    inputs, outputs: width of a step, and of the state of each direction. cell: name in MODES.
    integer: products of 8-bit integers, whose ranges are found for each sample and step. Only an LSTM with integer
    weights has them, after training.
    """

    def __init__(self, inputs: int, outputs: int, *, cell: str, bidirectional: bool) -> None:
        super().__init__(MODES[cell], inputs, outputs, bidirectional=bidirectional)
        self.cell, self.integer = cell, False

    @property
    def has_integer_kernel(self) -> bool:
        """True if the runtime multiplies by integers: it has a kernel for the LSTM only."""
        return self.cell == "lstm"

    @property
    def out_features(self) -> int:
        """Width of the state of each direction."""
        return self.hidden_size

    @property
    def weight_names(self) -> list[str]:
        """Names of the weights of inputs and states, without biases."""
        return [name for names in self._all_weights for name in names if name.startswith("weight")]

    @property
    def weights(self) -> list[Tensor]:
        """The tensors of each direction in the order of PER_DIRECTION, forward first."""
        return [getattr(self, name) for names in self._all_weights for name in names]

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map (T, N, inputs) to the states of all steps, (T, N, directions * outputs), and the last ones of each cell.

        lengths: steps of each sequence, int32 (N,), at least 1; None: all have T. States at padding are 0. The last
        states are (N, directions * outputs); that of a backward cell is at the first step.
        """
        if self.integer:
            states, last = integer_lstm(values, lengths, self.weights)
            return states, last
        exported = torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()
        states, last = (recurrent if exported else run)(values, lengths, self.weights, self.cell)
        return states, last


def run(values: Tensor, lengths: Tensor | None, weights: list[Tensor], cell: str) -> tuple[Tensor, Tensor]:
    """Run the cells of one layer; see `RecurrentLayer.forward`."""
    steps, samples = values.shape[:2]
    directions, hidden = len(weights) // PER_DIRECTION, weights[1].shape[1]
    start: Any = values.new_zeros(directions, samples, hidden)
    options = True, 1, 0.0, torch.is_grad_enabled(), directions == 2  # biases, layers, dropout, training
    start = (start, start) if cell == "lstm" else start
    if lengths is None or values.is_meta:  # shapes do not depend on lengths
        states, last, *_ = KERNELS[cell](values, start, weights, *options, False)
    else:
        packed = pack_padded_sequence(values, lengths.cpu(), enforce_sorted=False)
        data, last, *_ = KERNELS[cell](packed.data, packed.batch_sizes, start, weights, *options)
        last = last.index_select(1, packed.unsorted_indices)
        states, _ = pad_packed_sequence(packed_like(packed, data), total_length=steps)
    return states, last.transpose(0, 1).reshape(samples, -1)


def packed_like(packed: PackedSequence, data: Tensor) -> PackedSequence:
    """Return other values with the same lengths."""
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)


@torch.library.custom_op("nas_compress::recurrent", mutates_args=())
def recurrent(values: Tensor, lengths: Tensor | None, weights: list[Tensor], cell: str) -> tuple[Tensor, Tensor]:
    """Run `run` as a single operator without gradient, for exporters, which cannot follow packed sequences."""
    states, last = run(values, lengths, weights, cell)
    return states.clone(), last.clone()


@torch.library.custom_op("nas_compress::integer_lstm", mutates_args=())
def integer_lstm(values: Tensor, lengths: Tensor | None, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Run an LSTM as the runtime's DynamicQuantizeLSTM does for each sample alone, without gradient.

    The values of a sample are rounded to 8 bits in their own range, and so is its state before each product. weights:
    restored from integers.
    """
    steps, samples = values.shape[:2]
    lengths = torch.full((samples,), steps) if lengths is None else lengths.long()
    rounded = _rounded(values, (0, 2))
    parts = [weights[start : start + PER_DIRECTION] for start in range(0, len(weights), PER_DIRECTION)]
    made = [_integer_direction(rounded, lengths, part, backward=place == 1) for place, part in enumerate(parts)]
    return torch.cat([states for states, _ in made], dim=2), torch.cat([last for _, last in made], dim=1)


def _integer_direction(
    values: Tensor, lengths: Tensor, weights: list[Tensor], *, backward: bool
) -> tuple[Tensor, Tensor]:
    of_input, of_state, input_bias, state_bias = weights
    places = torch.arange(len(values)).unsqueeze(1).expand(-1, len(lengths))
    active = places < lengths
    order = ((lengths - 1 - places).clamp(min=0) if backward else places).unsqueeze(2)
    given = F.linear(values, of_input, input_bias + state_bias)
    given = given.gather(0, order.expand_as(given))
    hidden = memory = values.new_zeros(len(lengths), of_state.shape[1])
    states = []
    for step, runs in zip(given, active.unsqueeze(2), strict=True):
        i, f, g, o = (step + F.linear(_rounded(hidden, (1,)), of_state)).chunk(4, dim=1)
        memory = torch.where(runs, f.sigmoid() * memory + i.sigmoid() * g.tanh(), memory)
        hidden = torch.where(runs, o.sigmoid() * memory.tanh(), hidden)
        states.append(hidden)
    stacked = torch.stack(states)
    return stacked.gather(0, order.expand_as(stacked)) * active.unsqueeze(2), hidden


def _rounded(values: Tensor, dimensions: tuple[int, ...]) -> Tensor:
    """Round to unsigned 8-bit integers in the range over `dimensions`, which includes 0; ties to even."""
    lowest, highest = values.amin(dimensions, keepdim=True), values.amax(dimensions, keepdim=True)
    lowest, highest = lowest.clamp(max=0), highest.clamp(min=0)
    scale = torch.where(highest > lowest, (highest - lowest) / 255, 1.0)
    zero_point = (-lowest / scale).clamp(0, 255).round()
    return ((values / scale).round().clamp(-zero_point, 255 - zero_point)) * scale


@integer_lstm.register_fake
def _(values: Tensor, lengths: Tensor | None, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    return _shapes(values, weights)


@recurrent.register_fake
def _(values: Tensor, lengths: Tensor | None, weights: list[Tensor], cell: str) -> tuple[Tensor, Tensor]:
    return _shapes(values, weights)


def _shapes(values: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    steps, samples = values.shape[:2]
    width = len(weights) // PER_DIRECTION * weights[1].shape[1]
    return values.new_empty(steps, samples, width), values.new_empty(samples, width)
