"""The search loop of one process: propose, try and tell until the study has its total of trials."""

from __future__ import annotations

import time

from nas_compress.search.ask_and_tell import Trials
from nas_compress.search.trial_stopper import study_pruner

LOOK_EVERY_S = 0.5
"""Seconds between two checks of a waiting process."""


def search(trials: Trials) -> None:
    """Try candidates until the total is reached. On any error the open trials are given up."""
    trials.hosts.study.pruner = study_pruner(trials.parts.spec)
    try:
        while not trials.is_complete():
            if not trials.step():
                if trials.hosts.give_up_dead():
                    trials.reporter.say("another run died; its trials are repeated")
                time.sleep(LOOK_EVERY_S)
    except BaseException:
        trials.give_up()
        raise
