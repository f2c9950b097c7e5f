"""Passwords of databases and stores are shown nowhere: lines, files, logs and command lines."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from nas_compress.errors import RequestError, RunError
from nas_compress.search.run import run_study
from nas_compress.search.storage.optuna_storage import known_errors, open_storage
from nas_compress.search.storage.shared_files import open_shared
from nas_compress.search.storage.urls import database_address, shown_url, without_secrets
from nas_compress.search.workers.dask import HostTask
from postgres import postgres_server
from running import Told, write_study


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:secret@host/db", "postgresql://ann:***@host/db"),
        ("postgresql://ann:se/c@ret@host/db", "postgresql://ann:***@host/db"),
        ("postgresql://ann:se?c:ret@host/db", "postgresql://ann:***@host/db"),
        ("postgresql://ann:s%2Fcret@host/db", "postgresql://ann:***@host/db"),
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("postgres://host/db?password=secret&user=ann", "postgres://host/db?password=***&user=ann"),
        ("postgres://host/db?user=ann&PASSWORD=sec;r#et", "postgres://host/db?user=ann&PASSWORD=***"),
        ("postgres://host/db?pass%77ord=secret", "postgres://host/db?pass%77ord=***"),
        ("postgres://host/db?sslpassword=secret&sslmode=require", "postgres://host/db?sslpassword=***&sslmode=require"),
        ("postgres://host/db?passfile=/home/ann/.pgpass", "postgres://host/db?passfile=/home/ann/.pgpass"),
        ("mysql://host/db?passwd=secret&auth_token=secret", "mysql://host/db?passwd=***&auth_token=***"),
        ("postgresql://ann@host:5432/db", "postgresql://ann@host:5432/db"),
        ("sqlite:///runs/a@b:c.db", "sqlite:///runs/a@b:c.db"),
        (None, None),
    ],
)
def test_a_password_is_never_shown(url: str | None, shown: str | None) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("message", "url", "shown"),
    [
        ("no host 'ret@host'", "postgresql://ann:se/c@ret@host/db", "no host '***@host'"),
        ("bad token: s%2Fcret or s/cret", "postgresql://ann:s%2Fcret@host/db", "bad token: *** or ***"),
        ("dsn user=ann password=se+cret se cret", "postgresql://h/d?password=se+cret", "dsn user=ann password=*** ***"),
        ('no "http://me:key@store/x"', None, 'no "http://me:***@store/x"'),
        ("connection refused", "postgresql://ann@host/db", "connection refused"),
    ],
)
def test_a_password_is_removed_from_messages(message: str, url: str | None, shown: str) -> None:
    assert without_secrets(message, url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:5ecret/x@host/db",
        "postgresql://ann:sec?ret@host/db",
        "postgresql://ann:5ecret@host:no/db",
        "postgresql://ann:5ecret@localhost:1/db?connect_timeout=x",
        "5ecret",
        "nothing://ann:5ecret@host/db",
        "postgresql+nothing://ann:5ecret@host/db",
        "postgresql://ann@localhost:1/db?password=5ecret",
        "postgresql://ann@localhost:1/db?sslpassword=5ecret&sslmode=odd",
    ],
)
def test_a_storage_that_fails_is_one_line_without_the_password(url: str, tmp_path: Path) -> None:
    with pytest.raises((RequestError, RunError)) as refused:
        open_storage(url, tmp_path / "study.journal")
    assert "\n" not in str(refused.value) and "--storage" in str(refused.value)
    if url != "5ecret":
        assert "5ecret" not in str(refused.value) and "sec?ret" not in str(refused.value)


def test_a_storage_that_fails_later_is_one_line_without_the_password() -> None:
    from optuna.exceptions import StorageInternalError

    with (
        pytest.raises(RunError, match=r"^The storage failed: .*\*\*\*") as failed,
        known_errors("postgresql://a:5ecret@h/d"),
    ):
        raise StorageInternalError("cannot connect with password 5ecret")
    assert "5ecret" not in str(failed.value)


def test_drivers_get_the_whole_password() -> None:
    address = database_address("postgresql://ann:s%2Fcret@host/db?sslpassword=x%26y")
    assert (address.drivername, address.password) == ("postgresql+psycopg", "s/cret")
    assert address.query["sslpassword"] == "x&y"


def test_tasks_of_workers_and_hosts_print_no_password() -> None:
    task = HostTask(study="digits", out="run", storage="postgresql://ann:5ecret@h/d", shared="files", trials=3)
    assert "5ecret" not in repr(task) and pickle.loads(pickle.dumps(task)) == task


def test_keys_of_a_bucket_belong_into_the_environment() -> None:
    for place in ("s3://KEY:5ecret@bucket/x", "s3://KEY:5e/cret@bucket", "gs://KEY:5ecret@bucket"):
        with pytest.raises(RequestError) as refused:
            open_shared(place)
        assert "5e" not in str(refused.value)


@pytest.mark.slow
def test_the_storage_may_be_named_by_the_environment_and_no_process_shows_it(tmp_path: Path) -> None:
    study, url = write_study(tmp_path / "study", ("trials = 3", "trials = 2")), f"sqlite:///{tmp_path}/5ecret.db"
    root = tmp_path / "runs" / "tiny"
    words = [sys.executable, "-m", "nas_compress", "run", str(study), "--workers", "2"]
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(words, env=os.environ | {"NAS_COMPRESS_STORAGE": url}, stdout=log, stderr=log)
    while run.poll() is None and not (root / "trials" / "0").is_dir():
        time.sleep(0.05)
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert run.wait(300) == 0, (tmp_path / "log").read_text()
    assert "spawn_main" in shown and "5ecret" not in shown
    assert (tmp_path / "5ecret.db").is_file() and not (root / "study.journal").exists()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["PGPASSWORD", ".pgpass", "URL"])
def test_a_password_reaches_postgresql_by_the_environment_a_file_or_the_url_and_stays_out_of_the_run(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, study = "5e/cr@t%", write_study(tmp_path / "study", ("trials = 3", "trials = 1"))
    for name in ("PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with postgres_server(password=secret) as server:
        with pytest.raises(RunError, match=r"--storage .* cannot be reached: OperationalError") as refused:
            run_study(study, storage=server.url.replace("tester@", "tester:0therw1se@"))
        assert "0therw1se" not in str(refused.value)
        url = server.url
        if way == "PGPASSWORD":
            monkeypatch.setenv("PGPASSWORD", secret)
        elif way == ".pgpass":
            (tmp_path / ".pgpass").write_text(f"127.0.0.1:*:*:tester:{secret}\n")
            (tmp_path / ".pgpass").chmod(0o600)
        else:
            url = url.replace("tester@", f"tester:{quote(secret, safe='')}@")
        told = Told()
        run_study(study, storage=url, reporter=told)
        root = tmp_path / "runs" / "tiny"
        assert (root / "trials" / "0" / "outcome.json").is_file()
        text = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
        for spelling in (secret, quote(secret, safe="")):
            assert spelling.encode() not in text and spelling not in "".join(told.lines)
        run_study(study, storage=server.url if way != "URL" else url, trials=1)


def test_a_run_on_its_journal_is_not_moved_by_the_environment(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", ("trials = 3", "trials = 1"))
    run_study(study)
    with pytest.raises(RequestError, match="no --storage and no NAS_COMPRESS_STORAGE"):
        run_study(study, storage=f"sqlite:///{tmp_path}/study.db")
