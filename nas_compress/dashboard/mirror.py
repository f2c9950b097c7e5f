"""A run as optuna-dashboard shows it: a copy of its study in which constraints and artefacts are visible.

optuna-dashboard 0.21 reads constraints from the attribute that Optuna used before version 5, so that on the run's own
storage trials over budget look feasible. The copy carries both; the run itself is only read.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterable, Mapping
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from nas_compress.dashboard.artifacts import RunArtifacts
from nas_compress.errors import RequestError
from nas_compress.runs.folder import RunFolder

REFRESH_S = 5.0
"""How often new trials are looked for while the run goes on."""

OLD_CONSTRAINTS = "constraints"
"""The system attribute that optuna-dashboard reads."""

ARTIFACTS = "artifacts:"
"""What Optuna's attributes of artefacts begin with."""


class Mirror:
    """A copy of a run's study in memory, kept up to date by `refresh`."""

    def __init__(self, folder: RunFolder, url: str | None = None) -> None:
        if url is None and not folder.journal.is_file():
            raise RequestError(
                f"the run keeps its trials in another storage, {folder.about()['storage']}: give it as --storage"
            )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._folder = folder
        self._url = url
        self.storage = InMemoryStorage()
        self.artifacts = RunArtifacts(folder)
        source = self._source()
        self.study = optuna.create_study(
            study_name=source.study_name, storage=self.storage, directions=list(source.directions)
        )
        names = folder.spec().value_names
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self.study.set_metric_names(list(names))
        self._known: set[int] = set()
        for key, value in _attributes(self.artifacts.of_study()).items():
            self.storage.set_study_system_attr(self.study._study_id, key, value)
        self.refresh()

    def refresh(self) -> int:
        """Copy the trials that finished since; return how many."""
        fresh = [
            trial
            for trial in self._source().get_trials(deepcopy=False)
            if trial.state.is_finished() and trial.number not in self._known
        ]
        for trial in fresh:
            self._known.add(trial.number)
            self.study.add_trial(_visible(trial, _attributes(self.artifacts.of_trial(trial.number))))
        return len(fresh)

    def _source(self) -> optuna.Study:
        """The run's study, read without taking its lock."""
        if self._url is not None:
            return optuna.load_study(study_name=self._folder.spec().name, storage=self._url)
        storage = JournalStorage(JournalFileBackend(str(self._folder.journal)))
        return optuna.load_study(study_name=self._folder.spec().name, storage=storage)


def make_dashboard(mirror: Mirror, *, host: str, port: int) -> WSGIServer:
    """A server of the mirror that listens; port 0 takes a free one. RequestError without the extra `dashboard`."""
    try:
        from optuna_dashboard import wsgi
    except ImportError as error:
        raise RequestError("dashboard needs optuna-dashboard: pip install 'nas-compress[dashboard]'") from error
    try:
        application = wsgi(mirror.storage, artifact_store=mirror.artifacts)
        return make_server(host, port, application, server_class=_Threaded, handler_class=_Mute)
    except OSError as error:
        raise RequestError(f"--port must be free, but {host}:{port} is not: {error.strerror}") from error


def keep_fresh(mirror: Mirror, stop: threading.Event) -> threading.Thread:
    """Refresh the mirror in the background until `stop` is set."""

    def work() -> None:
        while not stop.wait(REFRESH_S):
            mirror.refresh()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class _Threaded(ThreadingMixIn, WSGIServer):
    """A thread for each connection: a browser opens some that it does not use, and they must hold nobody up."""

    daemon_threads = True


class _Mute(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing of each request."""


def _attributes(artifacts: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Artefacts as the system attributes by which Optuna names them."""
    return {
        f"{ARTIFACTS}{key}": json.dumps({"artifact_id": key, "filename": name, "mimetype": kind, "encoding": None})
        for key, name, kind in artifacts
    }


def _visible(trial: FrozenTrial, stored: Mapping[str, str]) -> FrozenTrial:
    """The trial with its artefacts, and its constraints also where optuna-dashboard looks for them."""
    constraints = list(trial.constraints.values())
    copy = optuna.create_trial(
        state=trial.state,
        values=trial.values,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={**trial.user_attrs, "trial": trial.number},
        system_attrs={**trial.system_attrs, **stored, OLD_CONSTRAINTS: constraints},
        intermediate_values=trial.intermediate_values,
    )
    copy.datetime_start, copy.datetime_complete = trial.datetime_start, trial.datetime_complete
    return copy
