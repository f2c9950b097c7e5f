"""Exchange of files between hosts by Optuna's artifact store, in a shared folder or an S3 bucket."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import optuna

from nas_compress.errors import RequestError, RunError, first_line
from nas_compress.files import irregular_kind, write_atomically
from nas_compress.optional_imports import broken_counts_as_missing, optional_package
from nas_compress.search.storage.urls import shown_url, without_secrets

with broken_counts_as_missing("boto3", "google.cloud.storage"):
    from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore, upload_artifact
    from optuna.artifacts.exceptions import ArtifactNotFound

BUCKET = re.compile(r"s3://(?P<bucket>[^/]+)/?(?P<prefix>.*)")
"""A bucket and the prefix of its objects."""

_PART = 1 << 20
"""Bytes of a stored file that are read at once."""


class Artifacts(Protocol):
    """Optuna's protocol of an artifact store."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return the content of an artifact. ArtifactNotFound is raised if there is none."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store an artifact."""

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedStore:
    """Files of finished trials by name.

    place: the folder or `s3://bucket/prefix`. failures: exceptions of an unreachable store.
    """

    place: str
    artifacts: Artifacts
    failures: tuple[type[Exception], ...] = ()

    def put(self, path: Path, trial: optuna.Trial) -> str:
        """Store a trial's file and return its name. RunError is raised if the store cannot be reached."""
        if not self.place.startswith("s3://"):
            Path(self.place).mkdir(parents=True, exist_ok=True)
        with self._known_errors():
            return upload_artifact(artifact_store=self.artifacts, file_path=str(path), study_or_trial=trial)

    def fetch(self, name: str, path: Path, *, sha256: str, size_bytes: int) -> None:
        """Write the stored file `name` to `path`.

        sha256, size_bytes: of the file. ValueError is raised if the stored file is another one; of a larger one only
        these bytes are read. RunError is raised if the file is gone or the store cannot be reached.
        """
        if not self.place.startswith("s3://"):
            kind = irregular_kind(Path(self.place) / name)  # a link leads elsewhere, and a pipe never ends
            if kind is not None:
                raise ValueError(f"{name} is {kind}")
        with self._known_errors():
            write_atomically(path, lambda part: self._download(name, part, sha256, size_bytes))

    def _download(self, name: str, path: Path, sha256: str, size_bytes: int) -> None:
        digest, left = hashlib.sha256(), size_bytes + 1
        with closing(self.artifacts.open_reader(name)) as stored, path.open("wb") as file:
            while left > 0 and (part := stored.read(min(left, _PART))):
                left -= len(part)
                digest.update(part)
                file.write(part)
        if left != 1 or digest.hexdigest() != sha256:
            raise ValueError(f"the SHA-256 or the size of {name} differs")

    @contextmanager
    def _known_errors(self) -> Iterator[None]:
        try:
            yield
        except ArtifactNotFound as error:
            raise RunError(
                f"--shared {self.place} lacks a file of another host. Give the place that the others use, or leave out "
                "--shared to continue without their files."
            ) from error
        except self.failures as error:
            raise RunError(
                f"--shared {self.place} cannot be reached: {_described(error)}. Run the same command to continue."
            ) from error


def open_shared(place: str | Path) -> SharedStore:
    """Open the store in a folder or at `s3://bucket/prefix`. The bucket must exist; the folder need not.

    Address and keys of a bucket are read from the usual places: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and the user's
    ~/.aws. RequestError is raised if the place is wrong, RunError if it does not answer.
    """
    found = BUCKET.fullmatch(str(place))
    if found is not None and re.search("[:@]", found["bucket"]):
        raise RequestError(
            "--shared must be s3://bucket/prefix without keys, which belong into AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, but got s3://***"
        )
    if found is not None:
        return _open_bucket(str(place), found["bucket"], found["prefix"].strip("/"))
    if "://" in str(place):
        raise RequestError(f"--shared must be a folder or s3://bucket/prefix, but got {shown_url(str(place))}")
    folder = Path(place).absolute()
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"--shared must be a folder or s3://bucket/prefix, but {folder} is a file")
    return SharedStore(place=str(folder), artifacts=FileSystemArtifactStore(folder))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prefixed:
    """A store with a prefix: one bucket can serve many studies."""

    store: Artifacts
    prefix: str

    def open_reader(self, artifact_id: str) -> BinaryIO:
        return self.store.open_reader(self.prefix + artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self.store.write(self.prefix + artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        self.store.remove(self.prefix + artifact_id)


def _open_bucket(place: str, bucket: str, prefix: str) -> SharedStore:
    boto3: Any = optional_package("boto3", needed_for=f"--shared {place}", extra="s3")
    from boto3.exceptions import Boto3Error
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

    try:
        client = boto3.client("s3", config=Config(connect_timeout=10))
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        raise _refused(place, error) from error
    except (NoCredentialsError, ParamValidationError, ValueError) as error:
        raise RequestError(
            f"--shared must name a bucket and find its keys, but {place} got {_described(error)}"
        ) from error
    except BotoCoreError as error:
        raise RunError(f"--shared {place} cannot be reached: {_described(error)}") from error
    return SharedStore(
        place=place,
        artifacts=_Prefixed(store=Boto3ArtifactStore(bucket, client), prefix=f"{prefix}/" if prefix else ""),
        failures=(Boto3Error, BotoCoreError, ClientError),
    )


def _refused(place: str, error: Any) -> RequestError | RunError:
    """Return the error for the server's answer to the request for a bucket."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if status == 404:
        return RequestError(f"--shared must name a bucket that exists, but got {place}")
    if status in (400, 401, 403):
        return RequestError(
            f"--shared must name a bucket that these keys may use, but {place} refuses: {_described(error)}"
        )
    return RunError(f"--shared {place} cannot be reached: {_described(error)}")


def _described(error: Exception) -> str:
    return without_secrets(f"{type(error).__name__}: {first_line(error)}")
