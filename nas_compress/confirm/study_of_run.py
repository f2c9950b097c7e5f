"""The study of a run and the folder of its code."""

from __future__ import annotations

from pathlib import Path

from nas_compress.config.study_file import StudyFile
from nas_compress.config.user_code_files import named_code
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.values.candidate import Candidate


def study_of_run(folder: RunFolder, candidate: Candidate, *, own: StudyFile | None = None) -> StudyFile:
    """Return the study of a run with one of its candidates in place of its space.

    own: the user's own study file; its folder replaces the folder recorded in run.json.
    RequestError if `own` names other data or another teacher, or if the run folder itself would supply the code.
    """
    spec, label = folder.spec(), str(folder.marker)
    if own is not None:
        _require_same(own, StudyFile(spec=spec, folder=own.folder, label=label))
        devices = {name: own.spec.devices.get(name, device) for name, device in spec.devices.items()}
        spec = spec.model_copy(update={"devices": devices})  # a run folder holds no commands
        return StudyFile(spec=spec, folder=own.folder, label=own.label, candidate=candidate)
    study = StudyFile(spec=spec, folder=Path(folder.about()["study_folder"]), label=label, candidate=candidate)
    root = folder.root.resolve()
    for code in named_code(study):
        if code.file.resolve().is_relative_to(root):
            raise RequestError(
                f"the code of a run must be outside its folder, but {code.reference} is {code.file}; "
                "name your own study by --study"
            )
    return study


def _require_same(own: StudyFile, recorded: StudyFile) -> None:
    for name in ("data", "teacher"):
        given, wanted = (file.spec.model_dump(mode="json")[name] for file in (own, recorded))
        for key in sorted(given.keys() | wanted.keys()):
            if given.get(key) != wanted.get(key):
                raise RequestError(
                    f"--study must be the study of the run, but {own.label} has {name}.{key} = {given.get(key)!r} "
                    f"and {recorded.label} has {wanted.get(key)!r}"
                )
