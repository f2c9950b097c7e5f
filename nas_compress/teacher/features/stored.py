"""Features of every training sample in every view, in a file that is read by rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_compress.callbacks import Notice
from nas_compress.data.augment.protocol import Augmentation
from nas_compress.data.dataset import Split
from nas_compress.errors import DamagedFileError
from nas_compress.files import (
    FileLock,
    digest_of_file,
    read_sealed_json,
    require_regular,
    write_atomically,
    write_sealed_json,
)
from nas_compress.models.features import Observation, Relations
from nas_compress.tasks.batch import device_of
from nas_compress.tasks.memory_map import MappedRows, MappedTensor
from nas_compress.training.random_state import kept_random_states

DTYPE = "float32"
PROBE = 64
"""Samples of the first and the last view whose features are computed again before stored ones are used."""

CLOSE = 1e-3
"""Allowed difference of stored and fresh features, as a fraction of the largest one; kernels round differently."""

WAIT_S = 1800.0
"""Longest wait for another process that computes the same features."""

Observe = Callable[[Tensor, int], Observation]
"""The teacher's observation of the samples at an index (B,) in a view."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A tensor of an observation.

    name: of a feature, or of a layer with relations. relation: 0 to 2 for its queries, keys or values; None for a
    feature. shape: of one sample. channels_last: maps lie in this order in memory, as the network returns them.
    """

    name: str
    relation: int | None
    shape: tuple[int, ...]
    channels_last: bool

    @property
    def numbers(self) -> int:
        """Numbers of one sample."""
        return prod(self.shape)

    def flat(self, seen: Observation) -> Tensor:
        """Return the tensor as rows (B, numbers) in the order of its memory."""
        found = seen.features[self.name] if self.relation is None else seen.relations[self.name][self.relation]
        ordered = found.permute(0, 2, 3, 1) if self.channels_last else found
        return ordered.float().flatten(1)

    def tensor(self, rows: Tensor) -> Tensor:
        """Return rows as the tensor (B, ...), with the memory order of a pass."""
        if not self.channels_last:
            return rows.reshape(len(rows), *self.shape)
        channels, height, width = self.shape
        return rows.reshape(len(rows), height, width, channels).permute(0, 3, 1, 2)


def parts_of(seen: Observation, *, features: Sequence[str], relations: Sequence[str]) -> tuple[Part, ...]:
    """Return the parts of an observation with these names, in the order of the pass."""
    named: list[tuple[str, int | None, Tensor]] = [
        (name, None, value) for name, value in seen.features.items() if name in features
    ]
    named += [
        (name, place, value)
        for name, each in seen.relations.items()
        if name in relations
        for place, value in enumerate(each)
    ]
    return tuple(
        Part(name=name, relation=relation, shape=tuple(value.shape[1:]), channels_last=_channels_last(value))
        for name, relation, value in named
    )


def _channels_last(value: Tensor) -> bool:
    return value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()


def features_bytes(parts: Sequence[Part], *, samples: int, views: int) -> int:
    """Return the bytes of the parts of all samples in all views."""
    return sum(part.numbers for part in parts) * samples * views * torch.float32.itemsize


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredFeatures:
    """Observations with stored parts only, without outputs.

    rows: float32 (views x samples, numbers of all parts). patches: see `Observation`.
    """

    parts: tuple[Part, ...]
    rows: MappedTensor
    samples: int
    patches: int

    def __call__(self, index: Tensor, view: int) -> Observation:
        """Return the observation of the samples at an index (B,) in a view."""
        found = self.rows.index_select(0, index + view * self.samples)
        features: dict[str, Tensor] = {}
        relations: dict[str, list[Tensor]] = {}
        pieces = torch.split(found, [part.numbers for part in self.parts], dim=1)
        for part, piece in zip(self.parts, pieces, strict=True):
            if part.relation is None:
                features[part.name] = part.tensor(piece)
            else:
                relations.setdefault(part.name, []).append(part.tensor(piece))
        layers: dict[str, Relations] = {name: (each[0], each[1], each[2]) for name, each in relations.items()}
        return Observation(outputs={}, features=features, relations=layers, patches=self.patches)


def cached_features(
    path: Path,
    observe: Observe,
    parts: Sequence[Part],
    *,
    samples: int,
    views: int,
    batch: int,
    patches: int,
    identity: Mapping[str, str],
    notice: Notice,
    order: Callable[[int], Tensor] | None = None,
    on_view: Callable[[int, int], None] | None = None,
) -> StoredFeatures:
    """Return the features in the file at `path` if they have this identity; otherwise compute and store them.

    observe: runs the teacher, in eval mode. batch: samples of a pass. order: of all samples (N,) in the passes of a
    view, by default their own. on_view: called with finished and planned views.
    notice: receives a line about a damaged file. The description of the file is written last, in another file.
    Processes that ask at the same time wait for the first one.
    """
    wanted: dict[str, Any] = {
        "identity": dict(identity),
        "parts": [{**asdict(part), "shape": list(part.shape)} for part in parts],
        "samples": samples,
        "views": views,
        "batch": batch,
    }
    shape = (views * samples, sum(part.numbers for part in parts))

    def opened() -> StoredFeatures:
        rows = MappedTensor(MappedRows(np.memmap(path, dtype=DTYPE, mode="r", shape=shape)))
        return StoredFeatures(parts=tuple(parts), rows=rows, samples=samples, patches=patches)

    with _alone(path.with_suffix(".lock")):
        try:
            if _is_whole(path, wanted) and _is_current(stored := opened(), observe, views=views):
                return stored
        except DamagedFileError as error:
            notice(f"{error}. The teacher's features are computed again.")
        digest = ""

        def fill(temporary: Path) -> None:
            nonlocal digest
            with temporary.open("r+b") as file:
                for view in range(views):
                    places = torch.arange(samples) if order is None else order(view)
                    for index, rows in _flat_rows(observe, parts, view, places, batch=batch):
                        for place, row in zip(index.tolist(), rows.numpy(), strict=True):
                            file.seek((view * samples + place) * row.nbytes)
                            file.write(row.tobytes())
                    if on_view is not None:
                        on_view(view + 1, views)
            digest = digest_of_file(temporary)

        write_atomically(path, fill)
        write_sealed_json(path.with_suffix(".json"), {**wanted, "content": digest})
        return opened()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; on a disk without locks several processes compute the same."""
    try:
        lock = FileLock(path)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            lock.wait(WAIT_S)
        yield
    finally:
        lock.release()
        lock.close()


def _is_whole(path: Path, wanted: Mapping[str, Any]) -> bool:
    """True if the file has this description; DamagedFileError if its content is not the described one."""
    try:
        known = read_sealed_json(path.with_suffix(".json"))
        if {name: value for name, value in known.items() if name != "content"} != wanted:
            return False
        require_regular(path)
        if digest_of_file(path) != known.get("content"):
            raise DamagedFileError(f"{path} is damaged: its content does not match its checksum")
    except FileNotFoundError:
        return False
    return True


def _flat_rows(
    observe: Observe, parts: Sequence[Part], view: int, order: Tensor, *, batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return indices and features of all samples in a view, batch by batch in this order.

    Every pass has the same number of samples, as in a training: a kernel may round otherwise for another number.
    """
    samples = len(order)
    for start in range(0, samples, batch):
        index = order[torch.arange(start, start + batch) % samples]
        with torch.inference_mode():
            seen = observe(index, view)
            rows = torch.cat([part.flat(seen) for part in parts], dim=1)
        yield index[: samples - start], rows[: samples - start]


def _is_current(stored: StoredFeatures, observe: Observe, *, views: int) -> bool:
    """True if the network still returns the stored features. The code of a user's module may change."""
    index = torch.arange(min(PROBE, stored.samples)) * stored.samples // min(PROBE, stored.samples)
    for view in sorted({0, views - 1}):
        with torch.inference_mode():
            fresh, kept = observe(index, view), stored(index, view)
            for part in stored.parts:
                now, before = part.flat(fresh), part.flat(kept)
                if not bool((now - before).abs().max() <= CLOSE * now.abs().max()):
                    return False
    return True


def observer(
    network: nn.Module,
    samples: Split,
    augmentation: Augmentation,
    run: Callable[[nn.Module, Mapping[str, Tensor]], Observation],
    pause: Callable[[], None] | None = None,
) -> Observe:
    """Return the function that runs a network on samples of a split. The random state stays as it is.

    run: observes a batch. pause: called before each batch; it may wait.
    """
    views, device = augmentation.over(samples.inputs), device_of(samples.inputs)

    def observe(index: Tensor, view: int) -> Observation:
        if pause is not None:
            pause()
        with kept_random_states(device):
            return run(network.eval(), views.batch(index, view))

    return observe
