"""Small teachers that are really trained, or brought along, each kept in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nas_compress.callbacks import no_progress
from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
from nas_compress.teacher.obtain import obtain_teacher
from nas_compress.teacher.teacher import Teacher


def small_teacher_in(folder: Path, section: TeacherSection, dataset: Dataset, *, batch_size: int = 32) -> Teacher:
    """The teacher of that section; relative paths start in `folder`, and it is kept there too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_COMPRESS_CACHE", str(folder))
        return obtain_teacher(
            section,
            TrainingSection(batch_size=batch_size),
            dataset,
            folder=folder,
            label="study.toml",
            device=torch.device("cpu"),
            progress=no_progress,
        )


def quick_device(folder: Path) -> OnnxruntimeCpu:
    """A device whose latencies are quick instead of exact."""
    return OnnxruntimeCpu(LatencyMeter(cache=folder, time_limit_s=0.01, blocks=1))
