"""Named inputs and outputs of a network and of its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from nas_compress.errors import RequestError
from nas_compress.values.audio.log_mel import LogMel
from nas_compress.values.text.hashed_words import HashedWords
from nas_compress.values.text.measured_lengths import Lengths
from nas_compress.values.text.word_pieces import WordPieces

BATCH = "N"
"""Name of the free first dimension of every tensor."""

TOKENS = "T"
"""Name of the free dimension of a sequence of tokens."""

DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool")
"""Types of inputs and outputs, named as in NumPy."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One named tensor.

    shape: sizes in order, `N` first. A whole number is fixed; a name is free at run time, and equal names mean equal
    sizes.
    values: number of ids of a tensor of token ids, which are 0 to `values` - 1; 0 is padding. None for other tensors.
    pieces: vocabulary that turns texts into these ids, if the ids come from texts. It is no part of the identity.
    log_mel: spectrogram that a network makes first of sounds int16 (N, samples); None for other tensors.
    words: words whose ids a network makes first of UTF-8 bytes, uint8 (N, bytes) with `values` 256; None for others.
    lengths: of the samples whose cost is measured; None for samples of one size. They are no part of it either.

    >>> TensorSpec(name="input", dtype="uint8", shape=("N", 1, 8, 8)).sample_shape
    (1, 8, 8)
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    values: int | None = None
    pieces: WordPieces | None = field(default=None, compare=False, repr=False)
    log_mel: LogMel | None = None
    words: HashedWords | None = None
    lengths: Lengths | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if not self.name.isidentifier():
            raise RequestError(f"a tensor must have a name of letters, digits and _, but got {self.name!r}")
        if self.dtype not in DTYPES:
            raise RequestError(f"dtype must be one of {', '.join(DTYPES)}, but got {self.name}: {self.dtype!r}")
        if self.shape[:1] != (BATCH,):
            raise RequestError(f"the first dimension must be {BATCH!r}, but got {self.name}: {self.shape}")
        for size in self.shape:
            if isinstance(size, str) and not size.isidentifier():
                raise RequestError(
                    f"free sizes must have names of letters, digits and _, but got {self.name}: {size!r}"
                )
        if any(isinstance(size, int) and size < 1 for size in self.shape):
            raise RequestError(f"fixed sizes >= 1 must hold, but got {self.name}: {self.shape}")
        if self.values is not None:
            _require_token_ids(self, self.values, hashed=self.words is not None)
        if self.log_mel is not None:
            _require_sounds(self, self.log_mel)

    @property
    def spectrogram_shape(self) -> tuple[int, int] | None:
        """(bands, frames) of the spectrogram that a network makes first; None for a tensor that is no sound."""
        if self.log_mel is None:
            return None
        return self.log_mel.bands, self.log_mel.frames(int(self.shape[1]))

    @property
    def free_dimensions(self) -> dict[int, str]:
        """Names of the free dimensions by their place; the batch is at 0."""
        return {place: size for place, size in enumerate(self.shape) if isinstance(size, str)}

    @property
    def sample_shape(self) -> tuple[int | str, ...]:
        """Sizes of one sample, without the batch."""
        return self.shape[1:]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Inputs and outputs in the order of a network's arguments and results.

    >>> Signature.of_images((1, 8, 8), classes=10).output("logits").shape
    ('N', 10)
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "outputs", tuple(self.outputs))
        if not self.inputs or not self.outputs:
            raise RequestError("a signature must have an input and an output, but got none")
        names = [spec.name for spec in (*self.inputs, *self.outputs)]
        if len(set(names)) < len(names):
            raise RequestError(f"each tensor must have a name of its own, but got {', '.join(names)}")

    @classmethod
    def of_images(cls, shape: tuple[int, int, int], *, classes: int) -> Signature:
        """Raw uint8 images (N, C, H, W) as `input`, float32 (N, classes) as `logits`."""
        return cls(
            inputs=(TensorSpec(name="input", dtype="uint8", shape=(BATCH, *shape)),),
            outputs=(TensorSpec(name="logits", dtype="float32", shape=(BATCH, classes)),),
        )

    @classmethod
    def of_tokens(cls, *, vocabulary: int, classes: int) -> Signature:
        """Token ids int32 (N, T) as `input`, both sizes free, and float32 (N, classes) as `logits`.

        vocabulary: number of ids, padding included.

        >>> Signature.of_tokens(vocabulary=100, classes=2).vocabulary
        100
        """
        return cls(
            inputs=(token_input(vocabulary),),
            outputs=(TensorSpec(name="logits", dtype="float32", shape=(BATCH, classes)),),
        )

    @property
    def vocabulary(self) -> int:
        """Number of ids of the only input, or made of its bytes; RequestError unless it is (N, T) of one of them."""
        spec = self.inputs[0]
        if len(self.inputs) != 1 or spec.values is None:
            found = ", ".join(f"{spec.name}: {spec.dtype} {spec.shape}" for spec in self.inputs)
            raise RequestError(f"a network of tokens must have one input of token ids (N, T), but got {found}")
        return spec.values if spec.words is None else spec.words.vocabulary

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the only input; RequestError unless it is an image of a fixed size.

        A sound counts as the image of its spectrogram, (1, bands, frames).
        """
        sound = self.inputs[0].spectrogram_shape
        shape = self.inputs[0].sample_shape if sound is None else (1, *sound)
        sizes = [size for size in shape if isinstance(size, int)]
        if len(self.inputs) != 1 or len(shape) != 3 or len(sizes) != 3:
            found = ", ".join(f"{spec.name} {spec.shape}" for spec in self.inputs)
            raise RequestError(f"a network of images must have one input (N, channels, height, width), but got {found}")
        channels, height, width = sizes
        return channels, height, width

    @property
    def classes(self) -> int:
        """Number of classes of the only output; RequestError unless it is (N, classes) with two classes or more."""
        shape = self.outputs[0].sample_shape
        if len(self.outputs) != 1 or len(shape) != 1 or not isinstance(shape[0], int) or shape[0] < 2:
            found = ", ".join(f"{spec.name} {spec.shape}" for spec in self.outputs)
            raise RequestError(f"a classifier must have one output (N, classes >= 2), but got {found}")
        return shape[0]

    @property
    def vector_size(self) -> int:
        """Length K of the only output, or of several together; RequestError unless they are (N, K)."""
        return sum(self.vector_sizes.values())

    @property
    def vector_sizes(self) -> dict[str, int]:
        """Length K of each output by name; RequestError unless they are (N, K)."""
        sizes = {spec.name: spec.sample_shape[0] for spec in self.outputs if len(spec.sample_shape) == 1}
        fixed = {name: size for name, size in sizes.items() if isinstance(size, int)}
        if len(fixed) < len(self.outputs):
            found = ", ".join(f"{spec.name} {spec.shape}" for spec in self.outputs)
            raise RequestError(f"a network of this family must have outputs (N, K), but got {found}")
        return fixed

    @property
    def pixel_classes(self) -> int:
        """Classes K of each pixel; RequestError unless the only output is (N, K, height, width) of the only image."""
        _, height, width = self.image_shape
        shape = self.outputs[0].sample_shape
        if len(self.outputs) != 1 or len(shape) != 3 or shape[1:] != (height, width) or not isinstance(shape[0], int):
            found = ", ".join(f"{spec.name} {spec.shape}" for spec in self.outputs)
            raise RequestError(f"a network of masks must have one output (N, K, {height}, {width}), but got {found}")
        return shape[0]

    @property
    def series_shape(self) -> tuple[int, int]:
        """(channels, steps) of the only input; RequestError unless it is a series (N, C, T) of a fixed size.

        A sound counts as the series of its spectrogram, (bands, frames).
        """
        sound = self.inputs[0].spectrogram_shape
        shape = self.inputs[0].sample_shape if sound is None else sound
        sizes = [size for size in shape if isinstance(size, int)]
        if len(self.inputs) != 1 or len(shape) != 2 or len(sizes) != 2:
            found = ", ".join(f"{spec.name} {spec.shape}" for spec in self.inputs)
            raise RequestError(f"a network of series must have one input (N, channels, steps), but got {found}")
        return sizes[0], sizes[1]

    @property
    def numbers_per_sample(self) -> int:
        """Numbers in a sample of the only input; RequestError unless its size is fixed."""
        sound = self.inputs[0].spectrogram_shape
        shape = self.inputs[0].sample_shape if sound is None else sound
        sizes = [size for size in shape if isinstance(size, int)]
        if len(self.inputs) != 1 or not sizes or len(sizes) != len(shape):
            found = ", ".join(f"{spec.name} {spec.shape}" for spec in self.inputs)
            raise RequestError(f"a network of vectors must have one input of a fixed size, but got {found}")
        return prod(sizes)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(spec.name for spec in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(spec.name for spec in self.outputs)

    def input(self, name: str) -> TensorSpec:
        """The input of that name; RequestError if there is none."""
        return _named(self.inputs, name, "input")

    def output(self, name: str) -> TensorSpec:
        """The output of that name; RequestError if there is none."""
        return _named(self.outputs, name, "output")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        return {
            kind: [_plain(spec) for spec in specs]
            for kind, specs in (("inputs", self.inputs), ("outputs", self.outputs))
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Signature:
        """The inverse of `to_dict`."""
        return cls(inputs=_specs(values["inputs"]), outputs=_specs(values["outputs"]))


def token_input(vocabulary: int, *, pieces: WordPieces | None = None, lengths: Lengths | None = None) -> TensorSpec:
    """The input of a network of tokens: ids int32 (N, T) of that many values. pieces, lengths: see `TensorSpec`."""
    return TensorSpec(
        name="input", dtype="int32", shape=(BATCH, TOKENS), values=vocabulary, pieces=pieces, lengths=lengths
    )


def byte_input(words: HashedWords, *, lengths: Lengths | None = None) -> TensorSpec:
    """The input of a network of hashed words: UTF-8 bytes uint8 (N, T), with 0 behind shorter texts."""
    return TensorSpec(name="input", dtype="uint8", shape=(BATCH, TOKENS), values=256, words=words, lengths=lengths)


def _require_token_ids(spec: TensorSpec, values: int, *, hashed: bool) -> None:
    if hashed:
        if (values, spec.dtype, len(spec.shape)) != (256, "uint8", 2):
            rule = "texts must be uint8 (N, bytes) of 256 values"
            raise RequestError(f"{rule}, but got {spec.name}: {spec.dtype} {spec.shape} of {values} values")
        return
    if values < 2 or spec.dtype not in ("int32", "int64") or len(spec.shape) != 2:
        rule = "token ids must be int32 or int64 (N, T) of 2 values or more"
        raise RequestError(f"{rule}, but got {spec.name}: {spec.dtype} {spec.shape} of {values} values")


def _require_sounds(spec: TensorSpec, log_mel: LogMel) -> None:
    if spec.dtype != "int16" or len(spec.shape) != 2 or not isinstance(spec.shape[1], int):
        rule = "sounds must be int16 (N, samples) of a fixed size"
        raise RequestError(f"{rule}, but got {spec.name}: {spec.dtype} {spec.shape}")
    log_mel.frames(spec.shape[1])


def _plain(spec: TensorSpec) -> dict[str, Any]:
    # all are absent in other tensors, as in stored files
    values: dict[str, Any] = {} if spec.values is None else {"values": spec.values}
    if spec.log_mel is not None:
        values["log_mel"] = spec.log_mel.to_dict()
    if spec.words is not None:
        values["words"] = spec.words.to_dict()
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape), **values}


def _named(specs: tuple[TensorSpec, ...], name: str, kind: str) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    names = ", ".join(spec.name for spec in specs)
    raise RequestError(f"an {kind} must be one of {names}, but got {name!r}")


def _specs(values: Iterable[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=spec["name"],
            dtype=spec["dtype"],
            shape=tuple(spec["shape"]),
            values=spec.get("values"),
            log_mel=None if spec.get("log_mel") is None else LogMel.from_dict(spec["log_mel"]),
            words=None if spec.get("words") is None else HashedWords.from_dict(spec["words"]),
        )
        for spec in values
    )
