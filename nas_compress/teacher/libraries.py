"""Networks of timm and Hugging Face transformers, built without weights and without the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.errors import RequestError, describe
from nas_compress.files import read_json
from nas_compress.optional_imports import optional_package
from nas_compress.tasks.batch import Batch
from nas_compress.tasks.task import Task
from nas_compress.teacher.weights_file import find_path

WEIGHT_FILES = ("model*.safetensors", "pytorch_model*.bin")
"""Names of the weights in a folder of Hugging Face, whole or in parts; the first kind that is there is read."""


class RawPictures(nn.Module):
    """A library's network on raw pictures (N, C, H, W) of uint8.

    The pictures are divided by 255 and normalised. mean, std: one for each channel of the library's data; for another
    number of channels their means count.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float], channels: int) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", mean), ("std", std)):
            value = torch.tensor(list(values), dtype=torch.float32)
            value = value if len(value) == channels else value.mean().expand(channels)
            self.register_buffer(name, value.reshape(1, -1, 1, 1).clone(), persistent=False)

    def forward(self, samples: Tensor) -> Any:
        """Normalise the pictures and run the network."""
        return self.network((samples.float() / 255 - self.mean) / self.std)


def timm_module(name: str, task: Task, batch: Batch, label: str) -> nn.Module:
    """Build a network of timm for the size, channels and classes of the data; RequestError if it cannot be built.

    Networks with a fixed size of pictures get the size of the data. Pictures of uint8 are normalised as timm does.
    """
    timm = optional_package("timm", needed_for="teacher.timm", extra="timm")
    samples = next(iter(batch.values()))
    if len(batch) != 1 or samples.ndim != 4:
        raise RequestError(f"{label}: teacher.timm needs pictures (N, C, H, W), but got {_shapes(batch)}")
    options: dict[str, Any] = {"num_classes": task.signature.vector_size, "in_chans": samples.shape[1]}
    try:
        with torch.random.fork_rng(devices=[]):
            network = timm.create_model(name, pretrained=False, **options)
            if network.pretrained_cfg.get("fixed_input_size"):
                sizes = tuple(samples.shape[2:])
                network = timm.create_model(name, pretrained=False, img_size=sizes, **options)
    except Exception as error:  # timm raises many types, and names near ones
        raise RequestError(
            f"{label}: teacher.timm must name a network that fits the data, but {name!r} raised {describe(error)}"
        ) from error
    cfg = network.pretrained_cfg
    return _on_raw(network, samples, cfg.get("mean", (0.5,)), cfg.get("std", (0.5,)))


def hugging_face_module(folder: Path, batch: Batch, label: str) -> nn.Module:
    """Build the network of a local folder of transformers; RequestError if it cannot be built.

    Pictures of uint8 are normalised by the folder's preprocessor_config.json. Code in the folder is not loaded.
    """
    transformers = optional_package("transformers", needed_for="teacher.hugging_face", extra="hugging_face")
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        kind = getattr(transformers, (config.architectures or ["no architecture"])[0])
        with torch.random.fork_rng(devices=[]):
            network = kind(config)
    except Exception as error:  # transformers raises many types
        raise RequestError(
            f"{label}: teacher.hugging_face must be a folder with the config.json of a network of transformers, but "
            f"{folder} raised {describe(error)}"
        ) from error
    preprocessor = folder / "preprocessor_config.json"
    settings = read_json(preprocessor) if preprocessor.is_file() else {}
    return _on_raw(
        network, next(iter(batch.values())), settings.get("image_mean", (0.5,)), settings.get("image_std", (0.5,))
    )


def hugging_face_weights(folder: Path, label: str) -> list[Path]:
    """Return the files with weights in a folder; RequestError if there are none."""
    for pattern in WEIGHT_FILES:
        found = sorted(folder.glob(pattern))
        if found:
            return found
    raise RequestError(
        f"{label}: teacher.hugging_face must be a folder with {' or '.join(WEIGHT_FILES)}, but {folder} has none"
    )


def hugging_face_folder(folder: Path, name: str, label: str) -> Path:
    """Return the folder, searched in `folder` and then in the working folder."""
    return find_path(folder, f"{name}/config.json", f"{label}: teacher.hugging_face").parent


def _on_raw(network: nn.Module, samples: Tensor, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Normalise pictures of uint8; other inputs pass as they are."""
    if samples.dtype != torch.uint8 or samples.ndim != 4:
        return network
    return RawPictures(network, mean, std, samples.shape[1])


def _shapes(batch: Batch) -> str:
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in batch.items())
