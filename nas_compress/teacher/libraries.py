"""Networks of timm and Hugging Face transformers, built without weights and without the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.config.pretrained import CONFIG, pretrained_folder
from nas_compress.errors import RequestError, describe
from nas_compress.files import digest_of_file, read_json
from nas_compress.optional_imports import optional_package
from nas_compress.tasks.batch import Batch
from nas_compress.tasks.task import Task

WEIGHT_FILES = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    "pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
)
"""Names of the weights in a folder of Hugging Face, whole or in parts; the first kind that is there is read.

Variants, such as model.fp16.safetensors, are left out.
"""

PREPROCESSOR = "preprocessor_config.json"

CENTRE = 0.5
"""Mean and standard deviation of pictures from 0 to 1 if nothing names others."""


TORCHVISION = "torchvision"
"""A package that timm imports, and whose compiled part loads next to the torch of its own build only."""

_BOX_OPERATORS: list[torch.library.Library] = []
"""Declarations by `load_timm`; torch forgets them with their library."""


def load_timm() -> ModuleType:
    """Import timm, next to a torchvision for another torch too; RequestError if timm is missing or broken.

    Networks of timm need none of torchvision's compiled operators, but its import needs their names. They are declared
    here if torchvision could not load them, and still cannot be called.
    """
    try:
        return optional_package("timm", needed_for="teacher.timm", extra="timm")
    except RequestError as error:
        if _BOX_OPERATORS or f"operator {TORCHVISION}::" not in str(error):
            raise
    library = torch.library.Library(TORCHVISION, "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    _BOX_OPERATORS.append(library)
    return optional_package("timm", needed_for="teacher.timm", extra="timm")


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
    if ":" in name or "/" in name:  # timm downloads the description of hf-hub:owner/name
        raise RequestError(f"{label}: teacher.timm must be a name in timm itself, such as resnet18, but got {name!r}")
    timm = load_timm()
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
    return _on_raw(network, samples, cfg.get("mean", (CENTRE,)), cfg.get("std", (CENTRE,)))


def hugging_face_module(folder: Path, batch: Batch, label: str) -> nn.Module:
    """Build the network of a local folder of transformers; RequestError if it cannot be built.

    Pictures of uint8 are normalised by the folder's PREPROCESSOR. Code in the folder is not loaded.
    """
    transformers = optional_package("transformers", needed_for="teacher.hugging_face", extra="hugging_face")
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        kind = getattr(transformers, (config.architectures or ["no architecture"])[0])
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise TypeError(f"{config.architectures[0]} is no network")
        with torch.random.fork_rng(devices=[]):
            network = kind(config)
    except Exception as error:  # transformers raises many types
        raise RequestError(
            f"{label}: teacher.hugging_face must be a folder with the config.json of a network of transformers, but "
            f"{folder} raised {describe(error)}"
        ) from error
    mean, std = pictures_normalisation(folder, label)
    return _on_raw(network, next(iter(batch.values())), mean, std)


def pictures_normalisation(folder: Path, label: str) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and standard deviation of pictures divided by 255, from PREPROCESSOR; CENTRE without the file.

    RequestError if the file cannot be read, or reverses the order of colours.
    """
    path = folder / PREPROCESSOR
    if not path.is_file():
        return (CENTRE,), (CENTRE,)
    try:
        settings = read_json(path)
        factor = float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0
        normalised = settings.get("do_normalize", True)
        mean = _numbers(settings.get("image_mean", CENTRE)) if normalised else [0.0]
        std = _numbers(settings.get("image_std", CENTRE)) if normalised else [1.0]
        if factor <= 0 or min(std) <= 0 or not mean:
            raise ValueError("its factor and deviations must be above 0")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RequestError(
            f"{label}: {path} must describe the pictures of the network, but it raised {describe(error)}"
        ) from error
    if settings.get("do_flip_channel_order"):
        raise RequestError(
            f"{label}: teacher.hugging_face must take colours in the order of the data, but {path} reverses them; use "
            "teacher.factory with a forward that does so"
        )
    shift = 1.0 if settings.get("rescale_offset") else 0.0
    # (factor x - shift - mean) / std, written for x / 255
    return [(each + shift) / (255 * factor) for each in mean], [each / (255 * factor) for each in std]


def _numbers(value: Any) -> list[float]:
    return [float(each) for each in (value if isinstance(value, list) else [value])]


def hugging_face_description(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files that decide the network's answers, apart from its weights."""
    return {name: digest_of_file(folder / name) for name in (CONFIG, PREPROCESSOR) if (folder / name).is_file()}


def hugging_face_weights(folder: Path, label: str) -> list[Path]:
    """Return the files with weights in a folder; RequestError if there are none."""
    for pattern in WEIGHT_FILES:
        found = sorted(folder.glob(pattern))
        if found:
            return found
    raise RequestError(
        f"{label}: teacher.hugging_face must be a folder with {' or '.join(WEIGHT_FILES)}, but {folder} has none"
    )


def hugging_face_names(network: nn.Module, checkpoint: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the weights of a folder by the names that the installed transformers gives the layers of its network.

    Releases rename layers, and files keep the names of the first. Weights that transformers does not take as they are
    return unchanged, so that the comparison of names tells the reason.
    """
    transformers = optional_package("transformers", needed_for="teacher.hugging_face", extra="hugging_face")
    config: Any = network.config
    if not all(isinstance(value, Tensor) for value in checkpoint.values()):
        return checkpoint
    transformers.utils.logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            loaded, report = getattr(transformers, config.architectures[0]).from_pretrained(
                None,
                config=config,
                state_dict=dict(checkpoint),
                output_loading_info=True,
                torch_dtype=torch.float32,  # newer releases would round to the type that the configuration names
            )
    except Exception:  # transformers raises many types
        return checkpoint
    whole = not any(report.get(kind) for kind in ("missing_keys", "mismatched_keys", "error_msgs"))
    state: Mapping[str, Tensor] = loaded.state_dict()
    return state if whole else checkpoint


def hugging_face_folder(folder: Path, name: str, label: str) -> Path:
    """Return the folder; see `pretrained_folder`."""
    return pretrained_folder(folder, name, f"{label}: teacher.hugging_face")


def _on_raw(network: nn.Module, samples: Tensor, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Normalise pictures of uint8; other inputs pass as they are."""
    if samples.dtype != torch.uint8 or samples.ndim != 4:
        return network
    return RawPictures(network, mean, std, samples.shape[1])


def _shapes(batch: Batch) -> str:
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in batch.items())
