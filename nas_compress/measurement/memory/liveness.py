"""Peak of the tensors alive at once while the nodes of a graph run in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators whose output is their first input under another shape."""

OVERWRITING: Mapping[str, int] = {
    **dict.fromkeys(("Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Softplus", "Clip"), 0),
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Tanh", "Softmax", "LogSoftmax", "Cast"), 0),
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv"), 3),
}
"""Input that an operator of onnxruntime's CPU kernels overwrites if nothing else reads it; 3 is the added tensor.

Arithmetic such as Add, Mul, Exp and Gelu has no such input.
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One node.

    operator: its type. reads: names of inputs in the order of the node, with empty names for stored tensors; then the
    tensors that only its branches read. writes: names of outputs. inner: bytes alive at once inside its branches,
    without reads and writes, 0 by default.
    """

    operator: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    inner: int = 0


class _Buffers:
    """Buffers in use: bytes of each, and the number of reads to come of all tensors in it."""

    def __init__(self, sizes: Mapping[str, int], reads: Mapping[str, float]) -> None:
        self.sizes, self.reads = sizes, reads
        self._home: dict[str, str] = {}
        self._bytes: dict[str, int] = {}
        self._waiting: dict[str, float] = {}

    @property
    def total(self) -> int:
        """Bytes in use."""
        return sum(self._bytes.values())

    def add(self, name: str) -> None:
        """Give a tensor a buffer of its own."""
        self._home[name], self._bytes[name], self._waiting[name] = name, self.sizes[name], self.reads[name]

    def share(self, name: str, other: str) -> None:
        """Put a tensor into the buffer of another one."""
        home = self._home[name] = self._home[other]
        self._waiting[home] += self.reads[name]

    def last_read(self, name: str) -> bool:
        """Return True if only one read of a tensor's buffer is left."""
        return self._waiting[self._home[name]] == 1

    def release(self, names: Iterable[str], *, reads: int) -> None:
        """Count reads of tensors, and free the buffers that nothing reads any more."""
        for name in names:
            home = self._home[name]
            self._waiting[home] -= reads
            if self._waiting[home] <= 0:
                self._bytes.pop(home, None)


def peak_bytes(
    steps: Sequence[Step],
    sizes: Mapping[str, int],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    keep_inputs: bool,
    overwriting: Mapping[str, int] = OVERWRITING,
) -> int:
    """Return the largest sum of the bytes of buffers in use during a node.

    A tensor lives from its node to its last reader, and an output of the graph to the end. An output of VIEWS shares
    the buffer of its input. Outputs of the graph have buffers of their own.

    sizes: bytes by name. keep_inputs: inputs of the graph belong to the caller, so they live to the end and are never
    overwritten. overwriting: input that an operator overwrites by type, if the sizes are equal and nothing else reads
    it.

    >>> chain = [Step(operator="Conv", reads=("x",), writes=("y",)), Step(operator="Conv", reads=("y",), writes=("z",))]
    >>> peak_bytes(chain, {"x": 4, "y": 8, "z": 2}, inputs=["x"], outputs=["z"], keep_inputs=False)
    12
    """
    reads: Counter[str] = Counter(name for step in steps for name in {*step.reads} - {""})
    held = {*outputs, *(inputs if keep_inputs else ())}
    buffers = _Buffers(sizes, {name: inf if name in held else reads[name] for name in sizes})
    for name in inputs:
        buffers.add(name)
    peak = buffers.total
    for step in steps:
        for name in step.writes:
            source = None if name in outputs else _shared(step, sizes, buffers, overwriting)
            if source is None:
                buffers.add(name)
            else:
                buffers.share(name, source)
        peak = max(peak, buffers.total + step.inner)
        buffers.release({*step.reads} - {""}, reads=1)
        buffers.release(step.writes, reads=0)  # frees outputs that nothing reads
    return peak


def _shared(step: Step, sizes: Mapping[str, int], buffers: _Buffers, overwriting: Mapping[str, int]) -> str | None:
    """Return the input whose buffer the output takes; None if there is none."""
    if len(step.writes) != 1:
        return None
    if step.operator in VIEWS:
        return step.reads[0] or None
    place = overwriting.get(step.operator, len(step.reads))
    source = step.reads[place] if place < len(step.reads) else ""
    fits = source and sizes[source] == sizes[step.writes[0]] and buffers.last_read(source)
    return source if fits else None
