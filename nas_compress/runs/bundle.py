"""Bundle of a front member: its file, candidate, figures and an example that runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from nas_compress.config.schema import StudySpec
from nas_compress.devices.onnx_session import file_signature
from nas_compress.devices.required_operators import required_operators
from nas_compress.errors import RequestError
from nas_compress.export.xz_container import content_with_thresholds
from nas_compress.files import write_bytes, write_json, write_text
from nas_compress.runs.bundle_text.card import bundle_card, name_if_absolute
from nas_compress.runs.bundle_text.example import example_code
from nas_compress.runs.bundle_text.picture_example import with_picture
from nas_compress.runs.checks.model_files import read_model
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, at_exit_point, read_record
from nas_compress.values.signature import Signature
from nas_compress.values.text import word_pieces

Chosen: TypeAlias = int | tuple[int, int | None]
"""A trained trial by its number, with the number of one of its exit points."""


def export_bundles(folder: RunFolder, places: Mapping[Chosen, Path]) -> list[Path]:
    """Write a bundle for each trial into its folder; after any error nothing is left of them.

    places: folders by trial, or by trial and exit point. RequestError if a trial was not trained or a folder is not
    empty, DamagedFileError if a model is not the file that was measured.
    """
    wanted = [(*(chosen if isinstance(chosen, tuple) else (chosen, None)), out) for chosen, out in places.items()]
    for trial, point, out in wanted:
        record = trained_record(folder, trial)
        read_model(folder, record)
        at_exit_point(record, point)
        _require_new(out)
    with ExitStack() as unfinished:
        for trial, point, out in wanted:
            unfinished.enter_context(_removed_on_error(out))
            export_bundle(folder, trial, out, exit_point=point)
    return list(places.values())


def export_bundle(folder: RunFolder, trial: int, out: Path, *, exit_point: int | None = None) -> None:
    """Write a trained trial's file, its candidate, figures, operators, README.md and example.py into a new folder.

    The file is read once, and exactly the bytes that have the recorded SHA-256 are written. exit_point: number of an
    operating point of a network with early exits, whose thresholds are then written into the file.
    """
    own = trained_record(folder, trial)
    content, record = read_model(folder, own), at_exit_point(own, exit_point)
    if record is not own and record.outcome.measured is not None and record.outcome.measured.exits is not None:
        content = content_with_thresholds(content, record.outcome.measured.exits.thresholds)
    _require_new(out)
    about = folder.about()
    model = out / Path(record.model).name
    with _removed_on_error(out):
        write_bytes(model, content)
        write_json(
            out / "config.json",
            {
                "candidate": record.outcome.candidate.to_dict(),
                "params": dict(record.params),
                "study": _portable(folder.spec()),
                "seed": record.outcome.seed,
                "versions": dict(record.versions) or about["versions"],
            },
        )
        outcome = record.outcome.to_dict()
        keys = ("number_format", "measured", "architecture", "epochs", "losses", "seconds")
        write_json(
            out / "metrics.json",
            {
                "trial": trial,
                **({} if exit_point is None else {"exit_point": exit_point}),
                "machine": about["machine"],
                **({"devices": about["devices"]} if "devices" in about else {}),
                "sha256": hashlib.sha256(content).hexdigest(),
                **{key: outcome[key] for key in keys},
            },
        )
        signature = file_signature(model)
        classes, exits = about.get("classes"), record.outcome.candidate.exits
        example = example_code(signature, model.name, classes=classes, names=_class_names(about), exits=exits)
        if folder.spec().data.folder is not None:
            example = with_picture(example, signature.inputs[0])
        write_text(out / "example.py", example)
        _write_word_pieces(out, signature)
        write_text(out / "required_operators.config", required_operators(model))
        write_text(out / "README.md", bundle_card(folder, record, signature, example, exit_point))


def _write_word_pieces(out: Path, signature: Signature) -> None:
    """Write the code that reads texts, and a copy of the vocabulary in the file for other tokenizers."""
    for spec in signature.inputs:
        if spec.pieces is not None:
            write_text(out / "word_pieces.py", Path(word_pieces.__file__).read_text(encoding="utf-8"))
            write_text(out / "vocab.txt", "".join(f"{piece}\n" for piece in spec.pieces.pieces))


def _portable(spec: StudySpec) -> dict[str, Any]:
    """Return the values of a study without absolute paths: only the names of such files remain."""
    values = spec.model_dump(mode="json")
    if spec.teacher.weights is not None:
        values["teacher"]["weights"] = name_if_absolute(spec.teacher.weights)
    if spec.teacher.hugging_face is not None:
        values["teacher"]["hugging_face"] = name_if_absolute(spec.teacher.hugging_face)
    for key in ("folder", "text"):
        if values["data"].get(key) is not None:
            values["data"][key] = name_if_absolute(values["data"][key])
    values["search"]["warm_start"] = []  # run folders of the study's machine; a bundle searches nothing
    return {**values, "space": name_if_absolute(spec.space)}


def trained_record(folder: RunFolder, trial: int) -> Record:
    """Return the record of a trained trial; RequestError if it was not trained."""
    record = read_record(folder, trial)
    if record is None:
        state = "was not finished" if folder.trial(trial).is_dir() else "does not exist"
        raise RequestError(f"--trial must be a finished trial, but trial {trial} {state} in {folder.root}")
    if record.outcome.state != "trained":
        ended = f"{record.outcome.state}: {record.outcome.reason}"
        raise RequestError(f"--trial must be a trained trial, but trial {trial} ended as {ended}")
    return record


@contextmanager
def _removed_on_error(out: Path) -> Iterator[None]:
    """Create an empty folder; remove its content, and the folders made for it, if the block raises an error."""
    made = [place for place in (out, *out.parents) if not place.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in out.glob("*"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            for place in made:
                place.rmdir()
        raise


def _require_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"--out must be a new or empty folder, but {out} is not")


def _class_names(about: Mapping[str, Any]) -> Sequence[str]:
    """Return the words of the classes that run.json holds; none in runs of earlier versions and of numbered classes."""
    names = about.get("class_names")
    if not isinstance(names, list) or len(names) != about.get("classes"):
        return ()
    return tuple(map(str, names))
