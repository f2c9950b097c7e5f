"""View of a run's storage for optuna-dashboard: adds constraints and artifacts when trials are read."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from copy import copy
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from nas_compress.dashboard.artifacts import Artifact, RunArtifacts
from nas_compress.errors import RequestError

CONSTRAINTS = "constraints"
"""System attribute read by optuna-dashboard 0.21. Optuna 5 stores each constraint in an attribute of its own."""

NOTES = ("set_study_system_attr", "set_trial_system_attr")
"""Methods of a storage that write notes and display settings."""


@BaseStorage.register
class StudyView:
    """One study of a storage, as shown by optuna-dashboard.

    Attributes are added on reading and never written: with both forms stored, Optuna would count each constraint twice.
    Notes are written to the storage. All other changes of the study are refused.
    """

    def __init__(self, storage: BaseStorage, name: str, artifacts: RunArtifacts) -> None:
        self._storage, self._name, self._artifacts = storage, name, artifacts
        self._attributes: dict[int, Mapping[str, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("get_") or name in NOTES:
            return getattr(self._storage, name)
        raise RequestError(f"the dashboard is read-only: {name} is refused")

    def get_all_studies(self) -> list[Any]:
        """Return the run's study only: a database may hold others, whose files are elsewhere."""
        shown = []
        for study in self._storage.get_all_studies():
            if study.study_name == self._name:
                complete = copy(study)
                complete.system_attrs = study.system_attrs | _artifact_attributes(self._artifacts.of_study())
                shown.append(complete)
        return shown

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the study's attributes with its pictures."""
        return self._storage.get_study_system_attrs(study_id) | _artifact_attributes(self._artifacts.of_study())

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return a trial's attributes with its files and constraints."""
        return self._complete(self._storage.get_trial(trial_id)).system_attrs

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials with their files and constraints."""
        return [self._complete(trial) for trial in self._storage.get_all_trials(study_id, deepcopy, states)]

    def _complete(self, trial: FrozenTrial) -> FrozenTrial:
        if not trial.state.is_finished():
            return trial
        if trial.number not in self._attributes:
            self._attributes[trial.number] = {
                **_artifact_attributes(self._artifacts.of_trial(trial.number)),
                CONSTRAINTS: list(trial.constraints.values()),
            }
        complete = copy(trial)
        complete.system_attrs = {**trial.system_attrs, **self._attributes[trial.number]}
        return complete


def _artifact_attributes(artifacts: list[Artifact]) -> dict[str, str]:
    """Return the system attributes for Optuna's list of artifacts."""
    return {
        f"artifacts:{artifact.key}": json.dumps(
            {"artifact_id": artifact.key, "filename": artifact.name, "mimetype": artifact.kind, "encoding": None}
        )
        for artifact in artifacts
    }
