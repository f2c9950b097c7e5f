"""optuna-dashboard on a run: what its API serves and what a browser shows."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from browsing import browser as browser
from nas_compress.dashboard.mirror import Mirror, make_dashboard
from nas_compress.errors import RequestError
from nas_compress.files import read_json, write_json
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records

pytest.importorskip("optuna_dashboard")


@pytest.fixture(scope="module")
def run(finished: Path) -> RunFolder:
    """Five trials, some of them over budget."""
    return RunFolder(root=finished / "run")


@pytest.fixture(scope="module")
def address(run: RunFolder) -> Iterator[str]:
    with make_dashboard(Mirror(run), host="127.0.0.1", port=0) as server:
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


def test_new_trials_appear_and_the_run_is_only_read(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    whole = (tmp_path / "run" / "study.journal").read_text().splitlines(keepends=True)
    told = [number for number, line in enumerate(whole) if '"state":1' in line.replace(" ", "")]
    journal = tmp_path / "run" / "study.journal"
    journal.write_text("".join(whole[: told[-1]]))
    mirror = Mirror(RunFolder(root=tmp_path / "run"))
    assert len(mirror.study.trials) == 4
    journal.write_text("".join(whole))
    assert mirror.refresh() == 1
    assert mirror.refresh() == 0
    assert len(mirror.study.trials) == 5
    assert journal.read_text() == "".join(whole)
    assert optuna.get_all_study_names(mirror.storage) == ["tiny"]


def test_a_run_in_another_storage_needs_its_url_and_a_port_must_be_free(
    run: RunFolder, address: str, tmp_path: Path
) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    (tmp_path / "run" / "study.journal").unlink()
    about = read_json(tmp_path / "run" / "run.json")
    write_json(tmp_path / "run" / "run.json", about | {"storage": "sqlite:///elsewhere.db"})
    with pytest.raises(RequestError, match="give it as --storage"):
        Mirror(RunFolder(root=tmp_path / "run"))
    with pytest.raises(RequestError, match="--port must be free"):
        make_dashboard(Mirror(run), host="127.0.0.1", port=int(address.rsplit(":", 1)[1]))
