"""The bytes of a trial's network, step by step from the teacher's file to its own."""

from __future__ import annotations

from nas_compress.devices.onnx_session import read_content
from nas_compress.errors import RequestError
from nas_compress.export.xz_container import compress
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_baseline
from nas_compress.values.model_file import COMPRESSED


def byte_steps(folder: RunFolder, record: Record, *, coded: bool = True) -> list[tuple[str, int]]:
    """Each step's name and bytes, down to the file in its entropy-coded container; empty where it cannot be read.

    A network with zeros or shared values has the steps of `export.layout.STEPS` between the teacher's file and its own.
    coded: whether a file that ships as it is gets compressed to know its last step, which takes a quarter of a second.
    """
    measured, teacher, path = record.outcome.measured, read_baseline(folder), folder.root / record.model
    try:
        content = read_content(path)
    except RequestError:
        return []
    steps = [] if teacher is None else [("the teacher, float32", int(teacher.figure("size_bytes")))]
    if measured is not None:
        steps += [(f"this network, {name}", size) for name, size in measured.steps.items()]
    steps.append(("this file", len(content)))
    if path.suffix == COMPRESSED:
        steps.append(("compressed", path.stat().st_size))
    elif coded:
        steps.append(("compressed", len(compress(content))))
    return steps
