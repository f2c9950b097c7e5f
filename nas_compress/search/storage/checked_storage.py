"""A storage whose trials are checked when they are read, because other programs may write to it too."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from nas_compress.config.schema import StudySpec
from nas_compress.errors import NasCompressError, RequestError, describe
from nas_compress.search.samplers.proposals import Suggesting, point_of
from nas_compress.search.storage.attribute_names import CANDIDATE, FIXED, KINDS, RUN, WORKER, is_count, is_number
from nas_compress.search.storage.journal import MALFORMED
from nas_compress.stopping.optuna_adapter import CURVE
from nas_compress.values.candidate import Candidate


@dataclass(frozen=True, kw_only=True)
class TrialRules:
    """Rules for the trials of a study.

    values: number of values of a trial. budgets: names of the constraints. space: the function of the search space.
    """

    values: int
    budgets: tuple[str, ...]
    space: Suggesting

    @classmethod
    def of(cls, spec: StudySpec, space: Suggesting) -> TrialRules:
        """Return the rules of a study."""
        budgets = spec.budgets_against(dict.fromkeys(spec.budgets, 1.0))  # any figures: the names do not depend on them
        return cls(values=len(spec.value_names), budgets=tuple(budget.key for budget in budgets), space=space)

    def fault(self, trial: FrozenTrial) -> str | None:
        """Return the reason why a trial cannot be used, None if it can."""
        try:
            return self._fault(trial)
        except MALFORMED as error:
            return describe(error)
        except NasCompressError as error:
            return str(error)

    def _fault(self, trial: FrozenTrial) -> str | None:
        held: list[Any] = [trial.user_attrs, trial.system_attrs]
        if not all(isinstance(attributes, dict) for attributes in held):
            return "its attributes must be objects"
        reported: Mapping[Any, Any] = trial.intermediate_values
        if not all(is_count(step) and isinstance(value, (int, float)) for step, value in reported.items()):
            return "its reported values must be numbers"
        complete = trial.state == TrialState.COMPLETE
        if (trial.values is not None or complete) and not self._are_values(trial.values):
            return f"it must have {self.values} values, but has {trial.values!r:.60}"
        if not all(map(is_number, trial.constraints.values())):
            return "its constraints must be numbers"
        if complete and set(trial.constraints) != set(self.budgets):
            return f"its constraints must be those of the study, but are {', '.join(trial.constraints)!r:.60}"
        return self._fault_of_params(trial) or self._fault_of_attributes(trial)

    def _are_values(self, values: object) -> bool:
        return isinstance(values, (list, tuple)) and len(values) == self.values and all(map(is_number, values))

    def _fault_of_params(self, trial: FrozenTrial) -> str | None:
        whole = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        point = point_of(self.space, trial.params, whole=whole)
        if point is None:
            return f"its parameters must be in the search space, but are {trial.params!r:.120}"
        if any(point.distributions[name] != kind for name, kind in trial.distributions.items()):
            return "its distributions must be those of the search space"
        queued: Any = trial.system_attrs.get(FIXED)
        unfinished = queued is not None and not trial.state.is_finished()
        if unfinished and point_of(self.space, queued, whole=False) is None:
            return f"its queued parameters must be in the search space, but are {queued!r:.120}"
        return None

    def _fault_of_attributes(self, trial: FrozenTrial) -> str | None:
        known = trial.user_attrs
        for name, holds in KINDS.items():
            if name in known and not holds(known[name]):
                return f"its attribute {name} must be valid, but is {known[name]!r:.60}"
        if CURVE in known and len(known[CURVE]["known"]) != self.values - 1:
            return f"its attribute {CURVE} must have {self.values - 1} known values"
        if not trial.state.is_finished() and CANDIDATE in known:
            Candidate.from_dict(known[CANDIDATE])
        return None


@BaseStorage.register
class CheckedStorage:
    """A storage that shows trials with a fault as failed ones, without parameters, values and attributes.

    Samplers, stopping rules and this package read all trials through it. A queued trial with a fault becomes one
    without given parameters.

    faulty: is called once with the number and the fault of each finished trial that has one.
    """

    def __init__(self, storage: BaseStorage, rules: TrialRules, faulty: Callable[[int, str], None]) -> None:
        self._storage, self._rules, self._faulty = storage, rules, faulty
        self._finished: dict[int, FrozenTrial] = {}
        """Finished trials by number. They cannot change."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials, those with a fault as failed ones."""
        read = self._storage.get_all_trials(study_id, deepcopy=False)
        found = [trial for trial in map(self._checked, read) if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return one trial."""
        return self._checked(self._storage.get_trial(trial_id))

    def get_trial_user_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the user attributes of one trial."""
        return self.get_trial(trial_id).user_attrs

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the system attributes of one trial."""
        return self.get_trial(trial_id).system_attrs

    def set_trial_param(self, trial_id: int, param_name: str, stored: float, distribution: BaseDistribution) -> None:
        """Store a parameter. RequestError if other programs stored it with another distribution, as Optuna refuses."""
        try:
            self._storage.set_trial_param(trial_id, param_name, stored, distribution)
        except ValueError as error:
            raise RequestError(
                f"the storage holds trials of another program, with another distribution of {param_name}; "
                "use another name of the study"
            ) from error

    def _checked(self, trial: FrozenTrial) -> FrozenTrial:
        known = self._finished.get(trial.number)
        if known is not None:
            return known
        fault = self._rules.fault(trial)
        checked = trial if fault is None else without_content(trial)
        if trial.state.is_finished():
            self._finished[trial.number] = checked
            if fault is not None:
                self._faulty(trial.number, fault)
        return checked


def without_content(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy of a trial with its number, times, state and run only. A finished trial becomes a failed one."""
    bare = copy.copy(trial)
    bare.state = TrialState.FAIL if trial.state.is_finished() else trial.state
    bare.values = None
    bare.params, bare.distributions, bare.intermediate_values = {}, {}, {}
    bare.system_attrs = {}
    attributes: Any = trial.user_attrs
    known = attributes if isinstance(attributes, dict) else {}
    bare.user_attrs = {name: known[name] for name in (RUN, WORKER) if KINDS[name](known.get(name))}
    return bare
