"""Augmentation by a function of the user, or by a transform of torchvision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nas_compress.errors import describe, refusal
from nas_compress.tasks.batch import Batch, device_of, rows
from nas_compress.user_code import code_digest, user_callable

BLOCK = 32
"""Samples of a call at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UserFunction:
    """A callable of the user, named `module:callable`, with the result for a block of samples.

    A function gets (batch, generator): the input tensor (B, ...), or a dict of tensors by name if the data set has
    several inputs, with a seeded torch.Generator on their device. It returns the same with other values. A transform
    of torchvision gets one sample (C, H, W) of one input at a time, under a seed of torch's global generator.

    of_samples: True for a transform of torchvision. digest: of the module's code, see `code_digest`.
    where: file and key, for errors.
    """

    reference: str
    function: Callable[..., object]
    of_samples: bool
    digest: str
    where: str

    @property
    def identity(self) -> str:
        """Reference and digest of the module."""
        return f"{self.reference} {self.digest}"

    def __call__(self, block: Batch, seed: int) -> dict[str, Tensor]:
        """Return the changed block, of the same types and shapes. RequestError of one line for another result."""
        try:
            found = self._transformed(block, seed) if self.of_samples else self._called(block, seed)
        except Exception as error:
            raise refusal(f"{self.reference} must change a batch, but raised {describe(error)}", self.where) from error
        if len(block) == 1 and isinstance(found, Tensor):
            found = {next(iter(block)): found}
        if not isinstance(found, Mapping) or list(found) != list(block):
            wanted = "a tensor" if len(block) == 1 else f"a dict of {', '.join(block)}"
            got = f"a dict of {', '.join(map(str, found))}" if isinstance(found, Mapping) else type(found).__name__
            raise refusal(f"{self.reference} must return {wanted}, but got {got}", self.where)
        for name, before in block.items():
            after = found[name]
            if not isinstance(after, Tensor) or (after.dtype, after.shape) != (before.dtype, before.shape):
                got = f"{after.dtype} {tuple(after.shape)}" if isinstance(after, Tensor) else type(after).__name__
                rule = f"{self.reference} must keep type and shape, {before.dtype} {tuple(before.shape)}"
                raise refusal(f"{rule}, but returned {got} for {name}", self.where)
        # a tensor of torchvision's own class becomes a plain one
        return {name: found[name].as_subclass(Tensor).to(before.device) for name, before in block.items()}

    def require_sound(self, inputs: Batch, *, folder: Path | None) -> None:
        """Call the function on the first samples; RequestError if the result differs at a second call or is not finite.

        folder: first place on sys.path, for modules that the function imports when it is called.
        """
        if self.of_samples and len(inputs) > 1:
            raise refusal(
                f"a transform of torchvision takes one input, but there are {', '.join(inputs)}; "
                "name a function of (batch, generator)",
                self.where,
            )
        block = rows(inputs, 0, BLOCK)
        with user_callable(self.reference, folder=folder, where=self.where, role="augment"):
            first, second = (self({name: values.clone() for name, values in block.items()}, seed=1) for _ in range(2))
        for name, values in first.items():
            if not torch.equal(torch.nan_to_num(values), torch.nan_to_num(second[name])):
                rule = "equal seeds of torch" if self.of_samples else "equal generators"
                remedy = (
                    "draw random numbers from torch only"
                    if self.of_samples
                    else "draw random numbers by torch.rand(..., generator=generator)"
                )
                raise refusal(
                    f"{self.reference} must return the same for {rule}, but {name} differs at a second call; {remedy}",
                    self.where,
                )
            if bool(torch.isfinite(block[name]).all()) and not bool(torch.isfinite(values).all()):
                raise refusal(f"{self.reference} must return finite values, but got inf or nan in {name}", self.where)

    def _called(self, block: Batch, seed: int) -> object:
        generator = torch.Generator(device=device_of(block)).manual_seed(seed)
        return self.function(next(iter(block.values())) if len(block) == 1 else dict(block), generator)

    def _transformed(self, block: Batch, seed: int) -> object:
        (samples,) = block.values()
        with torch.random.fork_rng(devices=[samples.device] if samples.is_cuda else []):
            torch.manual_seed(seed)
            return torch.stack([self._one(sample) for sample in samples])

    def _one(self, sample: Tensor) -> Tensor:
        found = self.function(sample)
        if not isinstance(found, Tensor):
            raise TypeError(f"a transform must return a tensor, but returned {type(found).__name__}")
        return found


def load_user_function(reference: str, *, folder: Path | None, where: str) -> UserFunction:
    """Import `module:callable`; RequestError of one line if it cannot be imported or is a class."""
    with user_callable(reference, folder=folder, where=where, role="augment") as function:
        if isinstance(function, type):
            rule = "augment must be a function of (batch, generator) or a transform of torchvision"
            raise refusal(f"{rule}, but {reference} is a class; name an object of it", where)
        return UserFunction(
            reference=reference,
            function=function,
            of_samples=is_of_torchvision(function),
            digest=(code_digest(reference, folder=folder) or "")[:16],
            where=where,
        )


def is_of_torchvision(function: object) -> bool:
    """Return True for an object of a class of torchvision, or of a class derived from one; nothing is imported."""
    return any(each.__module__.partition(".")[0] == "torchvision" for each in type(function).__mro__)
