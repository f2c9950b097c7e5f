"""The user's code that a study loads: where it is, without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas_compress.config.study_file import StudyFile
from nas_compress.user_code import module_file


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
    """Return the files of code that a study will load: its own space, its data and its teacher.

    Built-in spaces are no code of the user. Code that cannot be found is left out, because loading it raises an error.
    """
    spec = file.spec
    space = (file.folder / spec.space).resolve()
    found = []
    if file.candidate is None and spec.space.endswith(".py") and space.is_file():
        found.append(NamedCode(reference="suggest", file=space, root=space.parent))
    for reference in dict.fromkeys((spec.data.factory, spec.teacher.factory)):
        path = None if reference is None else module_file(reference, folder=file.folder)
        if reference is not None and path is not None:
            depth = reference.partition(":")[0].count(".") + (path.stem == "__init__")
            found.append(NamedCode(reference=reference, file=path, root=path.parents[depth]))
    return tuple(found)
