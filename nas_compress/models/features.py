"""Outputs and intermediate features of networks, for distillation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nas_compress.tasks.batch import Batch, named_outputs
from nas_compress.values.file_constants import OUTPUT_NAME

BEFORE_STAGES = ("stem", "embedding")
"""Names of features before the first stage or layer."""

Relations = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values of an attention layer, each (B, heads, tokens, head width)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """One forward pass over B samples: outputs and features in forward order.

    outputs: by name, in signature order; the values that a call of the network returns.

    features: of a convolutional family `stem`, `stage0`, `stage1`, ..., each (B, c, h, w); of a transformer
    `embedding`, `layer0`, `layer1`, ..., each (B, tokens, width); of any other module the outputs of its watched
    submodules, each of these kinds or (B, width).

    relations: of a transformer by layer; empty if not asked for.

    label_head, teacher_head: outputs of two heads, if one learns from labels and the other from a teacher (Touvron et
    al. 2021, arXiv 2012.12877); `outputs` are then the mean of both.

    patches: number of last tokens that belong to the image; the tokens before them are special.

    mask: of a network of token ids, bool (B, tokens), False at padding; features (B, tokens, width) have its tokens.
    """

    outputs: Batch
    features: Mapping[str, Tensor] = field(default_factory=dict)
    relations: Mapping[str, Relations] = field(default_factory=dict)
    label_head: Batch | None = None
    teacher_head: Batch | None = None
    patches: int = 0
    mask: Tensor | None = None

    @property
    def for_labels(self) -> Batch:
        """Outputs of the label head if there are two heads, else `outputs`."""
        return self.outputs if self.label_head is None else self.label_head

    @property
    def for_teacher(self) -> Batch:
        """Outputs of the teacher head if there are two heads, else `outputs`."""
        return self.outputs if self.teacher_head is None else self.teacher_head


class ObservableNetwork(nn.Module):
    """A network with features of its own: the common root of all families."""

    observe: Callable[..., Observation]
    """`observe(*inputs, relations=False)`: run on the inputs in signature order. relations: record them too."""


class OneInputNetwork(ObservableNetwork, ABC):
    """A network of one input and one output, named `output`, or of several that are parts of one vector.

    sizes: length of each of several outputs by name, in order; empty for one output.
    """

    def __init__(self, output: str = OUTPUT_NAME) -> None:
        super().__init__()
        self.output = output
        self.sizes: dict[str, int] = {}

    def named(self, values: Tensor) -> Batch:
        """Return the outputs by name. values: the last layer's, (B, ...), or (B, sum of the sizes)."""
        if not self.sizes:
            return {self.output: values}
        return dict(zip(self.sizes, torch.split(values, list(self.sizes.values()), dim=1), strict=True))

    @abstractmethod
    def observe(self, samples: Tensor, *, relations: bool = False) -> Observation:
        """Run on raw samples (B, ...); `relations` records a transformer's queries, keys and values."""

    def forward(self, samples: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map raw samples (B, ...) to the output (B, ...), or to several outputs in order."""
        outputs = self.observe(samples).outputs
        return tuple(outputs.values()) if self.sizes else outputs[self.output]


def watch(module: nn.Module, batch: Batch, names: Sequence[str], *, outputs: Sequence[str]) -> Observation:
    """Run any module on a batch and record the outputs of its named submodules, in forward order.

    outputs: names of the module's outputs. The last call of a submodule counts; submodules without a call are left out.
    """
    features: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def record(part: nn.Module, given: object, output: Tensor) -> None:
            features[name] = output

        return record

    with ExitStack() as hooks:
        for name in names:
            hooks.callback(module.get_submodule(name).register_forward_hook(recorder(name)).remove)
        returned = module(*batch.values())
    return Observation(outputs=named_outputs(returned, outputs), features=features)
