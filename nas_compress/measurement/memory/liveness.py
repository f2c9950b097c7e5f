"""Peak of the buffers in use at once while the nodes of a graph run in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, prod

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators whose output is their first input under another shape."""

OVERWRITING: Mapping[str, int] = {
    **dict.fromkeys(("Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Softplus", "Clip"), 0),
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Tanh", "Softmax", "LogSoftmax", "Cast"), 0),
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv"), 3),
}
"""Input that an operator of onnxruntime's CPU kernels overwrites if nothing else reads it; 3 is the added tensor.

Arithmetic such as Add, Mul, Exp and Gelu overwrites none.
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Shape of a tensor and bytes of each number.

    fixed: the runtime knows the shape before a run, apart from the batch.

    >>> Size(shape=(2, 3), width=4).bytes
    24
    """

    shape: tuple[int, ...]
    width: int
    fixed: bool = True

    @property
    def bytes(self) -> int:
        """Bytes of all numbers."""
        return prod(self.shape) * self.width


@dataclass(frozen=True, kw_only=True)
class Step:
    """One node.

    operator: its type. reads: names of inputs in the order of the node, with empty names for stored tensors; then the
    tensors that only its branches read. writes: names of outputs. inner: bytes of the tensors inside its branches, 0 by
    default.
    """

    operator: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    inner: int = 0


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Buffers in a runtime.

    keep_inputs: inputs of the graph belong to the caller, so they live to the end and are never overwritten.
    overwriting: input that an operator overwrites by type, if shapes are equal and nothing else reads it.
    recycle: a tensor takes the last freed buffer of its shape. That buffer stays allocated between the two.
    planned: all buffers lie in one block, at the places of onnxruntime's planner, and those of its kernels follow.
    """

    keep_inputs: bool
    overwriting: Mapping[str, int]
    recycle: bool
    planned: bool


ONNXRUNTIME = Rules(keep_inputs=True, overwriting=OVERWRITING, recycle=True, planned=True)
PORTABLE = Rules(keep_inputs=False, overwriting={}, recycle=False, planned=False)
"""Each tensor has a buffer from its node to its last reader, as in planners of microcontrollers."""


@dataclass(kw_only=True)
class _Plan:
    """Buffers by the name of their first tensor, and the nodes between which each is in use."""

    sizes: Mapping[str, Size]
    reads: Mapping[str, float]
    home: dict[str, str] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)
    free: list[str] = field(default_factory=list)

    def add(self, name: str, place: int) -> None:
        """Give a tensor a buffer of its own."""
        self.home[name], self.first[name], self.last[name] = name, place, place
        self.waiting[name] = self.reads[name]

    def share(self, name: str, other: str, place: int) -> None:
        """Put a tensor into the buffer of another one, which may be free."""
        home = self.home[name] = self.home[other]
        if home in self.free:
            self.free.remove(home)
            self.waiting[home] = 0
        self.waiting[home] += self.reads[name]
        self.last[home] = place

    def recyclable(self, name: str) -> str | None:
        """Return the last freed buffer of the same shape."""
        return next((home for home in reversed(self.free) if self.alike(home, name)), None)

    def end(self, home: str, steps: int) -> int:
        """Return the last node of a buffer."""
        return steps - 1 if self.waiting[home] == inf else self.last[home]

    def alike(self, one: str, other: str) -> bool:
        """Return True if the runtime knows that two tensors need the same buffer."""
        return self.sizes[one] == self.sizes[other] and self.sizes[one].fixed

    def read(self, name: str, place: int, *, count: int) -> None:
        """Count reads of a tensor. Its buffer is free after the last one."""
        home = self.home[name]
        self.waiting[home] -= count
        self.last[home] = place
        if self.waiting[home] <= 0 and home not in self.free:
            self.free.append(home)


def peak_bytes(
    steps: Sequence[Step],
    sizes: Mapping[str, Size],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    rules: Rules,
) -> int:
    """Return the largest sum of the bytes of buffers in use during a node.

    A tensor lives from its node to its last reader, and an output of the graph to the end. An output of VIEWS shares
    the buffer of its input. Outputs of the graph have buffers of their own.

    sizes: of all tensors that are not stored, by name.

    >>> chain = [Step(operator="Conv", reads=("x",), writes=("y",)), Step(operator="Conv", reads=("y",), writes=("z",))]
    >>> sizes = {name: Size(shape=(count,), width=1) for name, count in (("x", 4), ("y", 8), ("z", 2))}
    >>> peak_bytes(chain, sizes, inputs=["x"], outputs=["z"], rules=PORTABLE)
    12
    >>> peak_bytes(chain, sizes, inputs=["x"], outputs=["z"], rules=ONNXRUNTIME)  # the caller keeps x
    14
    """
    counted = Counter(name for step in steps for name in set(step.reads) - {""})
    held = {*outputs, *(inputs if rules.keep_inputs else ())}
    plan = _Plan(sizes=sizes, reads={name: inf if name in held else counted[name] for name in sizes})
    for name in inputs:
        plan.add(name, 0)
    for place, step in enumerate(steps):
        for name in step.writes:
            source = None if name in outputs else _source(name, step, plan, rules)
            if source is None:
                plan.add(name, place)
            else:
                plan.share(name, source, place)
        for name in dict.fromkeys(step.reads):
            if name:
                plan.read(name, place, count=1)
        for name in step.writes:
            plan.read(name, place, count=0)  # frees outputs that nothing reads
    if rules.planned:
        return _packed(plan, steps, apart={*inputs, *(name for name in outputs if name in plan.first)})
    return _most(plan, steps)


def _source(name: str, step: Step, plan: _Plan, rules: Rules) -> str | None:
    """Return the tensor whose buffer an output takes; None if it takes a new one."""
    if len(step.writes) == 1:
        if step.operator in VIEWS and step.reads[0]:
            return step.reads[0]
        place = rules.overwriting.get(step.operator, len(step.reads))
        source = step.reads[place] if place < len(step.reads) else ""
        if source and plan.alike(source, name) and plan.waiting[plan.home[source]] == 1:
            return source
    return plan.recyclable(name) if rules.recycle else None


def _most(plan: _Plan, steps: Sequence[Step]) -> int:
    total = [step.inner for step in steps] or [0]
    for home, first in plan.first.items():
        for place in range(first, plan.end(home, len(total)) + 1):
            total[place] += plan.sizes[home].bytes
    return max(total)


def _packed(plan: _Plan, steps: Sequence[Step], *, apart: set[str]) -> int:
    """Return the bytes of one block with all buffers at the places of onnxruntime's planner, and of those `apart`.

    A buffer takes the smallest gap in which it fits, or the end of the block.
    """
    taken: dict[str, tuple[int, int]] = {}
    block = 0
    for place in range(len(steps)):
        for home in (name for name, first in plan.first.items() if first == place and name not in apart):
            size, position, waste, best = plan.sizes[home].bytes, 0, inf, -1
            for start, end in [*sorted(taken.values()), (block, block)]:
                if size <= start - position and start - position - size < waste:
                    waste, best = start - position - size, position
                position = max(position, end)
            start = best if best >= 0 else max((end for _, end in taken.values()), default=0)
            taken[home] = start, start + size
            block = max(block, start + size)
        for home in [name for name in taken if plan.end(name, len(steps)) == place]:
            del taken[home]
    inner = max((step.inner for step in steps), default=0)
    return block + sum(plan.sizes[name].bytes for name in apart) + inner
