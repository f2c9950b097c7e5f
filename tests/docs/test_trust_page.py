"""Every statement of the page on trust is held by a test."""

from __future__ import annotations

import ast
import re

import pytest

from documented import ROOT

PAGE = ROOT / "docs" / "pages" / "trust.md"

HELD = {
    "load the search space and the modules": "config/test_named_code.py::test_each_file_is_named_with_its_folder",
    "print one line for each": "cli/test_code_is_named.py::test_run_names_code_first_and_quiet_only_logs_it",
    "Modules are searched": "config/test_named_code.py::test_the_working_folder_is_searched_last",
    "even if a built-in study": "cli/test_hostile_run.py::test_a_folder_comes_before_a_built_in_study",
    "from the folder recorded": "cli/test_code_is_named.py::"
    "test_confirm_names_code_and_takes_it_from_the_users_own_study",
    "refuses code inside": "cli/test_code_is_named.py::test_confirm_loads_no_code_from_the_run_folder",
    "`init` loads": "search/test_starter_study.py::test_a_study_of_ones_own_model_and_data_runs_unchanged",
    "`run config.json` loads": "cli/test_code_is_named.py::"
    "test_a_bundle_trains_again_with_code_beside_it_or_in_the_working_folder",
    "start the commands": "search/test_remote_study.py::test_a_wrong_command_is_refused_in_one_line",
    "Answers of a remote device": "devices/test_lying_devices.py::test_times_must_be_finite_and_positive",
    "Commands of devices": "search/test_remote_study.py::test_its_latency_is_an_objective_and_its_command_is_nowhere",
    "`python -m nas_compress` imports": "cli/test_reading_loads_no_code.py::"
    "test_only_python_m_imports_from_the_working_folder",
    "import no code": "cli/test_reading_loads_no_code.py::test_no_reading_command_imports_code",
    "a pickle with code": "teacher/test_hostile_weights.py::test_weights_with_code_are_refused_in_one_line",
    "A checkpoint with code": "teacher/test_hostile_weights.py::test_a_checkpoint_with_code_counts_as_damaged",
    "on the report page": "report/test_escaping.py::test_hostile_text_adds_no_tag_and_no_handler",
    "in the README.md": "runs/test_bundle_text.py::test_the_card_shows_hostile_values_as_code",
    "in the example.py": "runs/test_bundle_text.py::test_the_code_of_several_tensors_runs_with_any_names",
    "control the terminal": "cli/test_hostile_run.py::test_text_of_a_record_cannot_control_the_terminal",
    "Settings of matplotlib": "plots/test_same_picture_anywhere.py::"
    "test_a_picture_has_the_same_bytes_in_any_surroundings",
    "files of its own trial": "runs/test_sealed_run.py::test_a_record_with_impossible_values_is_refused",
    "Rows of a shared database": "search/storage/test_foreign_rows.py::"
    "test_a_hostile_row_is_named_in_one_line_and_not_used",
    "no absolute path": "cli/test_code_is_named.py::test_a_bundle_has_no_absolute_path_and_names_what_it_needs",
    "have a SHA-256": "runs/test_sealed_run.py::test_a_damaged_file_is_named_with_the_way_out",
    "A model is compared": "runs/test_sealed_run.py::test_a_model_is_exported_only_as_it_was_measured",
    "impossible values": "runs/test_sealed_run.py::test_a_record_with_impossible_values_is_refused",
    "A checksum is no signature": "cli/test_hostile_run.py::test_a_sealed_record_may_be_forged",
    "`verify` finds each": "cli/test_verify.py::test_a_change_is_named_in_one_line",
    "Without `--fast`": "cli/test_verify.py::test_a_sealed_figure_that_the_file_does_not_have_is_found",
    "`verify` loads code only": "cli/test_verify.py::"
    "test_data_of_own_code_are_loaded_only_from_a_study_that_the_user_names",
    "A JSON file may": "cli/test_hostile_run.py::test_a_longer_json_file_is_refused_unread",
    "A study file may": "config/test_study_file.py::test_a_file_of_another_kind_is_refused_with_its_name_and_the_place",
    "A model file may": "devices/test_foreign_models.py::test_a_file_of_several_gigabytes_is_not_read",
    "decompression": "devices/test_foreign_models.py::test_decompression_ends_at_the_limit",
    "its own weights": "devices/test_foreign_models.py::test_weights_outside_are_refused_at_any_depth",
    "in native code": "cli/test_commands.py::test_measure_agrees_with_the_record",
    "The dashboard listens": "cli/test_hostile_run.py::test_the_dashboard_listens_on_this_machine_only",
    "reaches the dashboard": "dashboard/test_dashboard.py::"
    "test_the_dashboard_keeps_notes_and_refuses_to_change_the_study",
    "shows notes": "cli/test_hostile_run.py::test_the_dashboard_serves_notes_as_they_are",
    "write to a database": "search/storage/test_foreign_rows.py::"
    "test_a_sound_row_of_another_host_becomes_a_record_with_its_file",
    "scheduler of a Dask cluster": "search/storage/test_hosts.py::test_dask_workers_share_a_study",
    "The local cluster": "search/storage/test_hosts.py::"
    "test_a_local_cluster_listens_on_this_machine_only_and_has_no_dashboard",
    "No password": "search/storage/test_urls.py::"
    "test_a_password_reaches_postgresql_by_the_environment_a_file_or_the_url_and_stays_out_of_the_run",
}
"""A phrase of each statement, and the test that holds it."""


def statements() -> list[str]:
    """Return the items of the lists, each in one line."""
    items = re.findall(r"^- .*(?:\n  .*)*", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [" ".join(item.removeprefix("- ").split()) for item in items]


def test_every_statement_has_a_test_and_every_test_a_statement() -> None:
    found = {item: [phrase for phrase in HELD if phrase in item] for item in statements()}
    assert [item for item, phrases in found.items() if len(phrases) != 1] == []
    assert sorted(phrase for phrases in found.values() for phrase in phrases) == sorted(HELD)
    assert len(found) <= 45


def test_all_statements_are_items_of_lists() -> None:
    lines = PAGE.read_text(encoding="utf-8").split("\n\n", 2)[2].splitlines()
    assert [line for line in lines if line and not line.startswith(("- ", "  ", "## "))] == []


@pytest.mark.parametrize("name", sorted(set(HELD.values())))
def test_the_named_test_exists(name: str) -> None:
    file, _, function = name.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
