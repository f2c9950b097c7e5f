"""A run folder made by somebody else: long files, text for the terminal, forged figures."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna_dashboard import save_note

from nas_compress.cli.main import commands
from nas_compress.config.study_file import read_study
from nas_compress.dashboard.server import dashboard_server
from nas_compress.files import JSON_LIMIT
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records, write_record
from nas_compress.runs.results import read_front, write_front
from nas_compress.runs.saved_epochs import savings
from nas_compress.search.storage.optuna_storage import opened_storage
from running import Command, write_study


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(root=shutil.copytree(finished / "run", tmp_path / "run"))


def test_text_of_a_record_cannot_control_the_terminal(command: Command, run: RunFolder) -> None:
    record = next(record for record in read_records(run) if record.repeats is None)
    reason = "no\x1b]0;title\x07\x1b[2J\r\nnas-compress: all is well"
    outcome = replace(record.outcome, state="failed", measured=None, reason=reason)
    write_record(run, replace(record, model="", params={"a\x1b[2J": "b\x1b[2J"}, outcome=outcome))
    for words in (("status",), ("show",)):
        answer = command(*words, run.root)
        assert answer.code == 0, answer.err
        assert "\x1b" not in answer.out + answer.err and "\x07" not in answer.out
        assert not any(line.startswith("nas-compress: all") for line in answer.out.splitlines())


def test_a_sealed_record_may_be_forged(command: Command, run: RunFolder) -> None:
    """A checksum protects from damage, not from people: this test states the limit of `verify`."""
    record = next(record for record in read_records(run) if record.outcome.state == "trained")
    assert record.outcome.measured is not None
    forged = record.outcome.measured.with_figures({"accuracy": 0.987654})
    write_record(run, replace(record, outcome=replace(record.outcome, measured=forged)))
    front = read_front(run)
    write_front(run, front, savings(read_records(run), front))
    assert "0.9877" in command("show", run.root).out
    assert command("verify", run.root, "--fast").code == 0


def test_a_longer_json_file_is_refused_unread(command: Command, run: RunFolder) -> None:
    with run.marker.open("r+b") as file:
        file.truncate(JSON_LIMIT + 1)
    answer = command("show", run.root)
    assert answer.code in (1, 2) and "run.json" in answer.line


def test_the_dashboard_listens_on_this_machine_only() -> None:
    (host,) = (option for option in commands.commands["dashboard"].params if option.name == "host")
    assert host.default == "127.0.0.1"


def test_the_dashboard_serves_notes_as_they_are(run: RunFolder) -> None:
    note = "<iframe srcdoc='<script>alert(1)</script>'></iframe>"
    with opened_storage(None, run.journal) as storage:
        save_note(optuna.load_study(study_name="tiny", storage=storage), note)
    with dashboard_server(run, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/api/studies/0", timeout=60) as response:
            assert json.load(response)["note"]["body"] == note
        server.shutdown()
        thread.join()


def test_a_folder_comes_before_a_built_in_study(tmp_path: Path) -> None:
    write_study(tmp_path / "digits")
    assert read_study("digits").spec.name == "tiny"
