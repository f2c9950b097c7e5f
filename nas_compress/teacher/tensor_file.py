"""Tensors in a safetensors file with a SHA-256 of their content, which every reader checks."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from nas_compress.errors import DamagedFileError, describe
from nas_compress.files import require_regular, write_atomically

SEAL = "nas_compress"
"""Key of the metadata: a JSON object with `sha256` and `about`. With one key the same tensors give the same bytes."""

LARGE = 2**20
"""Bytes from which a tensor is written without a copy, such as the answers to many views."""

_LENGTH_BYTES = 8
"""Bytes before the header of a safetensors file, with its length."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorFile:
    """The content of a file. about: plain values that the digest covers too."""

    tensors: Mapping[str, Tensor]
    about: Mapping[str, str] = field(default_factory=dict)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, about: Mapping[str, str] | None = None) -> None:
    """Write tensors, in one step, with the digest of their names, types, shapes and bytes."""
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        kept[name] = _apart(tensor.detach().cpu(), kept.values())
    seal = {"about": dict(about or {}), "sha256": digest_of_tensors(kept, about=about)}
    text = json.dumps(seal, sort_keys=True)

    def fill(temporary: Path) -> None:
        try:
            save_file(kept, temporary, metadata={SEAL: text})  # reads the tensors in place, without a copy
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error), str(temporary)) from error

    write_atomically(path, fill)


def _apart(tensor: Tensor, others: Collection[Tensor]) -> Tensor:
    """Return a tensor whose memory is its own: itself if it is large and fills its memory, else a copy."""
    whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes >= LARGE
    shared = any(tensor.data_ptr() == other.data_ptr() for other in others)
    return tensor if whole and not shared else tensor.clone(memory_format=torch.contiguous_format)


def read_tensors(path: Path) -> TensorFile:
    """Read the content of `write_tensors`, on the CPU.

    DamagedFileError if the file is none of ours or does not match its digest; FileNotFoundError if there is none;
    OSError for a pipe.
    """
    require_regular(path)
    content = path.read_bytes()
    try:
        tensors = load(content)
        seal = json.loads(_metadata(content).get(SEAL, "{}"))
        about, digest = dict(seal.get("about", {})), seal.get("sha256")
    except Exception as error:  # safetensors and json raise many types for other bytes
        raise DamagedFileError(f"{path} is damaged: {describe(error)}") from error
    if digest is None:
        raise DamagedFileError(f"{path} has no checksum; an earlier version or another program wrote it")
    if digest != digest_of_tensors(tensors, about=about):
        raise DamagedFileError(f"{path} is damaged: its content does not match its checksum")
    return TensorFile(tensors=tensors, about=about)


def digest_of_tensors(tensors: Mapping[str, Tensor], *, about: Mapping[str, str] | None = None) -> str:
    """Return the SHA-256 of names, types, shapes and bytes; neither order, device nor memory format counts."""
    digest = hashlib.sha256(json.dumps(dict(about or {}), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        content = tensor.reshape(-1).view(torch.uint8).numpy()
        digest.update(content.data)
    return digest.hexdigest()


def load_weights_(network: nn.Module, path: Path) -> None:
    """Load the weights of `write_tensors` into a network of the same shape.

    DamagedFileError if the file is damaged, holds another network, or weights that are not finite. The network is then
    unchanged. FileNotFoundError if there is no file.
    """
    state = read_tensors(path).tensors
    wanted = {name: (tensor.dtype, tensor.shape) for name, tensor in network.state_dict().items()}
    if {name: (tensor.dtype, tensor.shape) for name, tensor in state.items()} != wanted:
        raise DamagedFileError(f"{path} holds another network")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise DamagedFileError(f"{path} holds weights that are not finite")
    network.load_state_dict(state)


def _metadata(content: bytes) -> Mapping[str, str]:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    metadata: Mapping[str, str] = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length]).get("__metadata__", {})
    return metadata
