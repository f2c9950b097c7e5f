"""optuna-dashboard on a run: answers of its API and pages in a browser."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna.artifacts.exceptions import ArtifactNotFound
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from browsing import browser as browser
from nas_compress.dashboard.artifacts import RunArtifacts
from nas_compress.dashboard.server import dashboard_server
from nas_compress.errors import DamagedFileError, RequestError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records

pytest.importorskip("optuna_dashboard")


@pytest.fixture(scope="module")
def run(finished: Path) -> RunFolder:
    """Five trials, some of them over budget."""
    return RunFolder(root=finished / "run")


@pytest.fixture(scope="module")
def address(run: RunFolder) -> Iterator[str]:
    with serving(run) as address:
        yield address


@contextmanager
def serving(run: RunFolder) -> Iterator[str]:
    with dashboard_server(run, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as response:
        content: bytes = response.read()
        return content


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as response:
        return json.load(response)


def test_it_serves_names_directions_constraints_and_artefacts(address: str, run: RunFolder) -> None:
    (summary,) = ask(f"{address}/api/studies")["study_summaries"]
    assert summary["study_name"] == "tiny"
    assert summary["directions"] == ["maximize", "minimize", "minimize"]
    detail = ask(f"{address}/api/studies/{summary['study_id']}?after=0")
    assert detail["objective_names"] == ["accuracy", "latency_ms", "size_bytes"]
    records = read_records(run)
    assert len(detail["trials"]) == len(records) == 5
    over = [record.trial for record in records if record.outcome.reason]
    assert over
    shown = [trial["number"] for trial in detail["trials"] if any(value > 0 for value in trial["constraints"])]
    assert shown == over
    for trial, record in zip(detail["trials"], records, strict=True):
        names = {artifact["filename"] for artifact in trial["artifacts"]}
        own = record.repeats is None
        pictures = ({"curve.png"} if record.outcome.curve else set()) | {"place.png"}
        assert names == {"outcome.json"} | pictures | ({"model.onnx"} if own and record.model else set())
    assert any(record.outcome.curve for record in records)
    assert detail["trials"][0]["datetime_start"] < detail["trials"][0]["datetime_complete"]
    assert {artifact["filename"] for artifact in detail["artifacts"]} == {"front.png", "hypervolume.png"}


def test_artefacts_are_the_files_of_the_run_and_pictures_drawn_on_demand(address: str, run: RunFolder) -> None:
    trained = next(record for record in read_records(run) if record.model and record.outcome.curve)
    (summary,) = ask(f"{address}/api/studies")["study_summaries"]
    trials = ask(f"{address}/api/studies/{summary['study_id']}?after=0")["trials"]
    shown = trials[trained.trial]
    content = {
        artifact["filename"]: fetch(
            f"{address}/artifacts/{summary['study_id']}/{shown['trial_id']}/{artifact['artifact_id']}"
        )
        for artifact in shown["artifacts"]
    }
    assert content["model.onnx"] == (run.root / trained.model).read_bytes()
    assert content["curve.png"].startswith(b"\x89PNG") and content["place.png"].startswith(b"\x89PNG")
    assert content["curve.png"] != content["place.png"]


def test_a_connection_that_asks_nothing_holds_nobody_up(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))):
        assert ask(f"{address}/api/studies")["study_summaries"]


def test_a_browser_shows_the_study(address: str, browser: WebDriver) -> None:
    browser.get(f"{address}/dashboard/")
    WebDriverWait(browser, 30).until(lambda b: "tiny" in b.find_element(By.TAG_NAME, "body").text)
    browser.get(f"{address}/dashboard/studies/0/trials")
    WebDriverWait(browser, 30).until(lambda b: "Trial 4" in b.find_element(By.TAG_NAME, "body").text)


def test_new_trials_appear(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    journal = tmp_path / "run" / "study.journal"
    whole = journal.read_text().splitlines(keepends=True)
    told = [number for number, line in enumerate(whole) if '"state":1' in line.replace(" ", "")]
    journal.write_text("".join(whole[: told[-1]]))

    def finished(address: str) -> list[int]:
        (summary,) = ask(f"{address}/api/studies")["study_summaries"]
        trials = ask(f"{address}/api/studies/{summary['study_id']}?after=0")["trials"]
        return [trial["number"] for trial in trials if trial["state"] == "Complete"]

    with serving(RunFolder(root=tmp_path / "run")) as address:
        before = finished(address)
        journal.write_text("".join(whole))
        WebDriverWait(address, 20).until(lambda address: len(finished(address)) == 5)
    assert len(before) == 4


def test_the_dashboard_keeps_notes_and_refuses_to_change_the_study(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    journal = tmp_path / "run" / "study.journal"
    whole = journal.read_text()
    with serving(RunFolder(root=tmp_path / "run")) as address:
        (summary,) = ask(f"{address}/api/studies")["study_summaries"]
        place = f"{address}/api/studies/{summary['study_id']}"
        for url, method, content in ((place, "DELETE", {}), (f"{place}/rename", "POST", {"study_name": "other"})):
            with pytest.raises(urllib.error.HTTPError) as refused:
                send(url, method, content)
            assert refused.value.code == 500
            refused.value.close()
        assert journal.read_text() == whole
        send(f"{place}/note", "PUT", {"body": "a note", "version": 1})
        assert ask(f"{place}?after=0")["note"]["body"] == "a note"
    assert "a note" in journal.read_text()
    assert read_records(RunFolder(root=tmp_path / "run")) == read_records(run)


def send(url: str, method: str, content: object) -> None:
    body = json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=20):
        pass


def test_a_run_in_another_storage_needs_its_url_and_a_port_must_be_free(
    run: RunFolder, address: str, tmp_path: Path
) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    (tmp_path / "run" / "study.journal").unlink()
    moved = RunFolder(root=tmp_path / "run")
    moved.start(moved.about() | {"storage": "sqlite:///elsewhere.db"})
    with pytest.raises(RequestError, match="give it as --storage"), serving(RunFolder(root=tmp_path / "run")):
        pass
    port = int(address.rsplit(":", 1)[1])
    taken = dashboard_server(run, host="127.0.0.1", port=port)
    with pytest.raises(RequestError, match="--port must be free"), taken:
        pass


def test_a_changed_file_is_neither_shown_nor_served(run: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(root=shutil.copytree(run.root, tmp_path / "run"))
    trained = next(record for record in read_records(folder) if record.model and record.repeats is None)
    artifacts = RunArtifacts(folder)
    (model,) = (each for each in artifacts.of_trial(trained.trial) if each.name == "model.onnx")
    content = artifacts.open_reader(model.key).read()
    (folder.root / trained.model).write_bytes(content + b"x")
    with pytest.raises(ArtifactNotFound, match=rf"{trained.model} is not the file that was measured"):
        artifacts.open_reader(model.key)
    (folder.trial(trained.trial) / "outcome.json").write_bytes(b"{}")
    assert artifacts.of_trial(trained.trial) == []
    with pytest.raises(DamagedFileError, match=r"outcome\.json is damaged"), serving(folder):
        pass
