"""The user's code that a study loads: where it is, without loading it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nas_compress.config.study_file import StudyFile
from nas_compress.user_code import code_digest, is_torchscript, module_file


@dataclass(frozen=True, kw_only=True)
class NamedCode:
    """One file of code that a study names.

    reference: `module:callable`, or the name of a space. file: the file that will be loaded. root: its folder, or the
    folder of its package.
    """

    reference: str
    file: Path
    root: Path

    def __str__(self) -> str:
        return f"loads {self.file.relative_to(self.root)} ({self.reference}) from {self.root}"


def named_code(file: StudyFile) -> tuple[NamedCode, ...]:
    """Return the files of code that a study will load: space, data, preparation, augmentation, teacher and metrics.

    A TorchScript file of the teacher is code too. Built-in spaces are no code of the user. Code that cannot be found is
    left out, because loading it raises an error.
    """
    spec = file.spec
    space = (file.folder / spec.space).resolve()
    found = []
    if file.candidate is None and spec.space.endswith(".py") and space.is_file():
        found.append(NamedCode(reference="suggest", file=space, root=space.parent))
    for reference in dict.fromkeys(
        (spec.data.factory, spec.data.preprocess, spec.data.augment_code, spec.teacher.factory, *spec.metric_functions)
    ):
        path = None if reference is None else module_file(reference, folder=file.folder)
        if reference is not None and path is not None:
            depth = reference.partition(":")[0].count(".") + (path.stem == "__init__")
            found.append(NamedCode(reference=reference, file=path, root=path.parents[depth]))
    if spec.teacher.weights is not None:
        paths = [place / spec.teacher.weights for place in (file.folder, Path.cwd())]
        path = next((path.resolve() for path in paths if path.is_file()), None)
        if path is not None and is_torchscript(path):
            found.append(NamedCode(reference="teacher.weights", file=path, root=path.parent))
    return tuple(found)


def code_digests(references: Iterable[str], *, folder: Path) -> dict[str, str]:
    """Return the digest of the code of each `module:callable`, by reference; modules without a file are left out."""
    digests = {reference: code_digest(reference, folder=folder) for reference in references}
    return {reference: digest for reference, digest in digests.items() if digest is not None}
