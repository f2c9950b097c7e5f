"""Hostile names and values stay text in the code and the card of a bundle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import markdown
import onnx
import pytest
from onnx import TensorProto, helper

from nas_compress.devices.onnx_session import file_signature
from nas_compress.errors import RequestError
from nas_compress.runs.bundle import export_bundle, export_bundles, trained_record
from nas_compress.runs.bundle_text.card import quoted
from nas_compress.runs.bundle_text.example import example_code
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records, write_record
from nas_compress.values.signature import Signature, TensorSpec

NAMES = (
    'a"]})\nopen("marker", "w")\n#',
    "b'); open('marker', 'w') #",
    "{loader}{0}{{",
    "back\\slash\\",
    '"""',
    "tab\tand\r\nlines",
    "naïve \u2028 😀",
    "f{open('marker','w')}",
)

HTML = "<img src=x onerror=alert(1)>`</code>*|[a](http://x)"


def hostile(name: str, *sizes: int | str) -> TensorSpec:
    """A tensor with a name and sizes that the constructor refuses."""
    spec = TensorSpec(name="plain", dtype="float32", shape=("N",))
    object.__setattr__(spec, "name", name)
    object.__setattr__(spec, "shape", ("N", *sizes))
    return spec


def write_model(path: Path, given: list[str], returned: list[str], sizes: list[object]) -> None:
    """A file that returns its inputs as they are."""
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in names] for names in (given, returned)
    ]
    nodes = [helper.make_node("Identity", [one], [other]) for one, other in zip(given, returned, strict=True)]
    graph = helper.make_graph(nodes, "graph", *values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def printed(folder: Path) -> str:
    answer = subprocess.run(
        [sys.executable, "-I", folder / "example.py"], capture_output=True, text=True, cwd=folder, encoding="utf-8"
    )
    assert answer.returncode == 0, answer.stderr
    assert not (folder / "marker").exists()
    return answer.stdout


@pytest.mark.parametrize("name", NAMES)
def test_the_code_of_a_classifier_runs_with_any_name(name: str, tmp_path: Path) -> None:
    write_model(tmp_path / "model.onnx", [name], [f"{name} out"], ["N", 3])
    signature = Signature(inputs=(hostile(name, 3),), outputs=(hostile(f"{name} out", 3),))
    (tmp_path / "example.py").write_text(example_code(signature, "model.onnx", classes=3), encoding="utf-8")
    assert printed(tmp_path) == "class 0 of 3; logits [0.0, 0.0, 0.0]\n"


def test_the_code_of_several_tensors_runs_with_any_names(tmp_path: Path) -> None:
    outputs = [f"{name} out" for name in NAMES]
    size = "}{'\"\n"
    write_model(tmp_path / "model.onnx", list(NAMES), outputs, ["N", size])
    signature = Signature(
        inputs=tuple(hostile(name, size) for name in NAMES), outputs=tuple(hostile(name, size) for name in outputs)
    )
    (tmp_path / "example.py").write_text(example_code(signature, "model.onnx", classes=None), encoding="utf-8")
    assert printed(tmp_path).count("[0.0]") == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_such_names_is_refused(name: str, tmp_path: Path) -> None:
    write_model(tmp_path / "model.onnx", [name], ["logits"], ["N", 3])
    with pytest.raises(RequestError, match="a tensor must have a name of letters, digits and _, but got"):
        file_signature(tmp_path / "model.onnx")


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)


def test_the_card_shows_hostile_values_as_code(finished: Path, tmp_path: Path) -> None:
    run = RunFolder(root=shutil.copytree(finished / "run", tmp_path / "run"))
    trial = next(record.trial for record in read_records(run) if record.outcome.state == "trained")
    about = run.about()
    run.start({**about, "machine": {**about["machine"], "cpu": f"{HTML}\n\n# title\x1b[31m"}})
    record = trained_record(run, trial)
    write_record(run, replace(record, params={f"{HTML}\n```\n": f"{HTML}\n- item"}))
    export_bundle(run, trial, tmp_path / "bundle")
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    page = markdown.markdown(card, extensions=["tables", "fenced_code"])
    assert Tags(page).found == {"h1", "p", "code", "pre", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.count("<h1>") == 1 and "&lt;img src=x" in page and "\x1b" not in card


def test_a_text_is_quoted_in_one_line() -> None:
    assert quoted("a\n``b``\tc\x07") == "`a ''b'' c\\x07`"


def test_nothing_is_written_if_one_file_is_unreadable(finished: Path, tmp_path: Path) -> None:
    run = RunFolder(root=shutil.copytree(finished / "run", tmp_path / "run"))
    trained = [record for record in read_records(run) if record.outcome.state == "trained"]
    (run.root / trained[-1].model).write_bytes(b"no model")
    places = {record.trial: tmp_path / "out" / str(record.trial) for record in trained}
    with pytest.raises(Exception, match="model"):
        export_bundles(run, places)
    assert not (tmp_path / "out").exists()


def test_the_example_of_named_classes_prints_words() -> None:
    names = ["cat", 'the "dog"', "Aal"]
    code = example_code(Signature.of_images((1, 8, 8), classes=3), "model.onnx", classes=3, names=names)
    compile(code, "example.py", "exec")
    assert 'names = ["cat", "the \\"dog\\"", "Aal"]' in code and "print(names[int(logits[0].argmax())]" in code
