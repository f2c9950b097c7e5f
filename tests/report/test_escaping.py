"""Text from a run folder stays text on the report page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import onnx
import pytest
from onnx import TensorProto, helper

from nas_compress.errors import RequestError
from nas_compress.report.page import report_page
from nas_compress.runs.confirmation import STUDENT, Confirmation, Summary, write_confirmation
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_record, write_baseline, write_record
from nas_compress.values.architecture import Architecture, Width

Make = Callable[..., RunFolder]

HOSTILE = "</script></title></style>\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 191 }}"


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


@pytest.fixture
def hostile(make_run: Make) -> RunFolder:
    """A run with the same hostile text in every place that takes any text."""
    folder = make_run(trained=12, failed=1, stopped=1, reason=HOSTILE)
    about = folder.about()
    study = {**about["study"], "space": HOSTILE, "data": {"factory": HOSTILE}}
    study["teacher"] = {**study["teacher"], "factory": HOSTILE, "weights": HOSTILE, "features": [HOSTILE]}
    folder.start(
        {
            **about,
            "study": study,
            "space": {"name": HOSTILE, "hash": HOSTILE},
            "versions": {HOSTILE: HOSTILE},
            "machine": {"cpu": HOSTILE, HOSTILE: [HOSTILE]},
        }
    )
    for trial in range(12):
        record = read_record(folder, trial)
        assert record is not None and record.outcome.measured is not None
        write_record(
            folder,
            replace(
                record,
                params={HOSTILE: trial % 3, "family": f"{HOSTILE}{trial % 2}"},
                outcome=replace(
                    record.outcome,
                    measured=replace(record.outcome.measured, steps={HOSTILE: 9}, confusion=(HOSTILE, HOSTILE)),
                    seconds={HOSTILE: 1.0},
                    losses={HOSTILE: 1.0},
                    architecture=Architecture.of_images(
                        (1, 8, 8), classes=10, mean=5, std=6.0, family="resnet", depths=(1, 1, 1),
                        widths=(Width(layer=HOSTILE, asked=8, channels=8),),
                    ),
                ),
            ),
        )  # fmt: skip
    return folder


def write_model(folder: RunFolder) -> None:
    """A file whose operators and tensors have hostile names."""
    tensor = helper.make_tensor(HOSTILE, TensorProto.FLOAT, [2], [1.0, 2.0])
    node = helper.make_node(HOSTILE, ["input", HOSTILE], ["logits"], name=HOSTILE, domain=HOSTILE)
    values = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2])] for name in ("input", "logits")]
    graph = helper.make_graph([node], HOSTILE, *values, initializer=[tensor])
    onnx.save(helper.make_model(graph), folder.root / "x.onnx")


def test_hostile_text_adds_no_tag_and_no_handler(hostile: RunFolder) -> None:
    write_model(hostile)
    row = Summary(
        trial=0, role=HOSTILE, seeds=1, failed=0, epochs=1, validation_search=0.5, validation_mean=0.5,
        validation_std=None, test_shipped=0.5, test_mean=0.5, test_std=None, figures={},
    )  # fmt: skip
    confirmation = Confirmation(
        rows=(row, replace(row, role=STUDENT)), alike=(), test_samples=9, teacher_validation=0.9, teacher_test=0.9
    )
    write_confirmation(hostile, confirmation)
    text = report_page(hostile)
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert [attributes["src"] for tag, attributes in page.tags if tag == "img"] == [
        source for source in (attributes.get("src") for _, attributes in page.tags) if source is not None
    ]
    assert all(str(attributes["src"]).startswith("data:") for tag, attributes in page.tags if tag == "img")
    assert [name for _, attributes in page.tags for name in attributes if name.startswith("on")] == []
    assert page.text.count(HOSTILE) > 30 and "1337" not in page.text
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert HOSTILE in data["columns"]


def test_a_study_name_of_other_characters_is_refused(make_run: Make) -> None:
    folder = make_run()
    about = folder.about()
    folder.start({**about, "study": {**about["study"], "name": HOSTILE}})
    with pytest.raises(RequestError, match="name"):
        report_page(folder)


def test_a_forged_matrix_is_left_out(hostile: RunFolder) -> None:
    baseline = read_record(hostile, 0)
    assert baseline is not None and baseline.outcome.measured is not None
    write_baseline(hostile, baseline.outcome.measured, files={})
    assert "<h3>Confusion" not in report_page(hostile)
