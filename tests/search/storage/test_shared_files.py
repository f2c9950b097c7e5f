"""Files of several hosts through a folder or a bucket, and what is said where there is none."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from nas_compress.errors import RequestError, RunError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.runs.results import read_front
from nas_compress.search.run import run_study
from nas_compress.search.storage.shared_files import open_shared
from running import free_port, write_study

KEYS = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def asked() -> optuna.Trial:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study().ask()


def test_a_folder_gives_what_was_put_and_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"figures")
    store = open_shared(tmp_path / "shared")
    name = store.put(tmp_path / "file", asked())
    expected = {"sha256": hashlib.sha256(b"figures").hexdigest(), "size_bytes": 7}
    open_shared(str(tmp_path / "shared")).fetch(name, tmp_path / "other" / "host", **expected)
    assert (tmp_path / "other" / "host").read_bytes() == b"figures"
    with pytest.raises(RunError, match=r"--shared .*elsewhere lacks a file of another host"):
        open_shared(tmp_path / "elsewhere").fetch(name, tmp_path / "third" / "host", **expected)
    assert not list((tmp_path / "third").iterdir())


@pytest.mark.parametrize("kind", ["other", "shorter", "larger", "link", "pipe"])
def test_another_file_than_the_measured_one_is_not_fetched(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"figures")
    store = open_shared(tmp_path / "shared")
    name = store.put(tmp_path / "file", asked())
    stored = tmp_path / "shared" / name
    if kind in ("link", "pipe"):
        stored.unlink()
        stored.symlink_to(tmp_path / "file") if kind == "link" else os.mkfifo(stored)
    elif kind == "larger":
        with stored.open("ab") as file:
            file.truncate(10**11)
    else:
        stored.write_bytes(b"another" if kind == "other" else b"fig")
    with pytest.raises(ValueError, match=f"{name} (differs|is no plain file|is a symbolic link)"):
        store.fetch(name, tmp_path / "host", sha256=hashlib.sha256(b"figures").hexdigest(), size_bytes=7)
    assert not (tmp_path / "host").exists()


def test_places_that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place in ("gs://bucket/studies", "s3://", str(tmp_path / "file")):
        with pytest.raises(RequestError, match="--shared must be a folder or s3://bucket/prefix, but"):
            open_shared(place)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(RequestError, match=r"--shared s3://bucket needs boto3, .*pip install 'nas-compress\[s3\]'"):
        open_shared("s3://bucket")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that speaks S3 at the address that the environment names; bucket `studies` exists."""
    import boto3

    port = free_port()
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_MAX_ATTEMPTS": "1"}).items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    line = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    client, end = boto3.client("s3"), time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket="studies")
            break
        except Exception:  # it is not up yet
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
    yield process
    process.kill()
    process.wait()
    client.close()


@pytest.mark.slow
def test_two_hosts_with_a_bucket_end_with_the_same_files(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", ("trials = 3", 'trials = 3\nobjectives = ["accuracy", "size_bytes"]'))
    url, place = f"sqlite:///{tmp_path}/study.db", "s3://studies/some/tiny"
    first, second = tmp_path / "first", tmp_path / "second"
    run_study(study, out=first, storage=url, shared=place, trials=2)
    run_study(study, out=second, storage=url, shared=place, trials=3)
    run_study(study, out=first, storage=url, shared=place, trials=3)
    members = [
        {point.trial: point.model for point in read_front(RunFolder(root=root)).members} for root in (first, second)
    ]
    assert members[0] == members[1]
    for record in read_records(RunFolder(root=first)):
        assert (first / record.model).read_bytes() == (second / record.model).read_bytes()

    import boto3

    kept = boto3.client("s3").list_objects_v2(Bucket="studies")["Contents"]
    assert kept and all(item["Key"].startswith("some/tiny/") for item in kept)


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_refused_and_one_that_is_lost_ends_the_run(
    server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    study, url = write_study(tmp_path / "study"), f"sqlite:///{tmp_path}/study.db"
    with pytest.raises(RequestError, match="--shared must name a bucket that exists, but got s3://nothing/here"):
        run_study(study, storage=url, shared="s3://nothing/here")
    assert not (tmp_path / "runs").exists() and not (tmp_path / "study.db").exists()
    run_study(study, storage=url, shared="s3://studies", trials=1)
    (tmp_path / "file").write_bytes(b"figures")
    store = open_shared("s3://studies")
    server.kill()
    server.wait()
    with pytest.raises(RunError, match=r"--shared s3://studies cannot be reached: .* the same command"):
        store.put(tmp_path / "file", asked())
    with pytest.raises(RunError, match="--shared s3://studies cannot be reached: EndpointConnectionError"):
        run_study(study, storage=url, shared="s3://studies", trials=2)
    run_study(study, storage=url, trials=2)
    assert len(read_records(RunFolder(root=tmp_path / "runs" / "tiny"))) == 2
