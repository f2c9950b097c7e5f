"""Server of optuna-dashboard on the storage of one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import BaseStorage

from nas_compress.dashboard.artifacts import RunArtifacts
from nas_compress.dashboard.view import StudyView
from nas_compress.errors import DamagedFileError, RequestError
from nas_compress.optional_imports import optional_package
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import Record, read_records
from nas_compress.search.storage.optuna_storage import opened_storage


@contextmanager
def dashboard_server(folder: RunFolder, url: str | None = None, *, host: str, port: int) -> Iterator[WSGIServer]:
    """Open a server for a run.

    url: the run's database. It is ignored if the trials are in the journal in the run folder.
    port: 0 takes a free one.
    DamagedFileError is raised for a damaged record or journal, and if the storage lacks a trial with a record.
    RequestError is raised without the extra `dashboard`, without the run's storage and if the port is in use.
    """
    wsgi = optional_package("optuna_dashboard", needed_for="dashboard", extra="dashboard").wsgi
    place = folder.about()["storage"]
    if place is None:
        url = None
    elif url is None:
        raise RequestError(f"the run keeps its trials in another storage, {place}: give it as --storage")
    if url is None and not folder.journal.is_file():
        raise RequestError(f"the journal of the run must be there, but {folder.journal} is not; run its study again")
    records = read_records(folder)
    artifacts = RunArtifacts(folder)
    with opened_storage(url, folder.journal) as storage:
        _require_trials(storage, folder, records, shown=place)
        application = wsgi(StudyView(storage, folder.spec().name, artifacts), artifact_store=artifacts)
        try:
            server = make_server(host, port, application, server_class=_ThreadedServer, handler_class=_SilentHandler)
        except OSError as error:
            raise RequestError(f"--port must be free, but {host}:{port} is not: {error.strerror}") from error
        with server:
            yield server


def _require_trials(storage: BaseStorage, folder: RunFolder, records: Sequence[Record], *, shown: str | None) -> None:
    """Raise DamagedFileError if a storage lacks a trial of the records. shown: the storage's URL without password."""
    studies = {study.study_name: study._study_id for study in storage.get_all_studies()}
    study = studies.get(folder.spec().name)
    count = 0 if study is None else storage.get_n_trials(study)
    lost = [record.trial for record in records if record.trial >= count]
    if lost:
        remedy = "Restore it." if shown else "nas-compress run repairs it by the records of the run."
        raise DamagedFileError(f"{shown or folder.journal} lacks trial {lost[0]}, which {folder.root} has. {remedy}")


class _ThreadedServer(ThreadingMixIn, WSGIServer):
    """A server with one thread per connection, because browsers also open unused connections."""

    daemon_threads = True


class _SilentHandler(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""
