"""Teachings as values: one form each, and nothing that does not belong together."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nas_compress.errors import RequestError
from nas_compress.values.candidate import Candidate, Teaching, distillation

KD = distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0)


def test_defaults_written_out_are_the_same_teaching() -> None:
    assert Teaching() == Teaching(teacher="fixed", checkpoint=1.0)
    assert Teaching(teacher="ensemble") == Teaching(teacher="ensemble", members=3, average="probability")
    assert Teaching(teacher="mutual") == Teaching(teacher="mutual", peers=1, peer_width=1.0)


@pytest.mark.parametrize(
    ("teaching", "count"),
    [
        (Teaching(), 1),
        (Teaching(teacher="ensemble", members=4), 1),
        (Teaching(teacher="born_again", generations=3), 3),
        (Teaching(teacher="mutual", peers=2), 3),
    ],
)
def test_generations_and_peers_count_as_trainings(teaching: Teaching, count: int) -> None:
    assert teaching.trainings == count


def test_a_candidate_keeps_its_teaching_through_json_and_reads_older_files() -> None:
    candidate = Candidate(
        family="resnet", depths=(1,), losses=KD, teaching=Teaching(teacher="assistant", annealing=True, soft_stop=0.5)
    )
    values = json.loads(json.dumps(candidate.to_dict()))
    assert Candidate.from_dict(values) == candidate
    mutual = replace(candidate, teaching=Teaching(teacher="mutual", peer_family="resnet", peer_depths=(2, 1, 1)))
    assert Candidate.from_dict(json.loads(json.dumps(mutual.to_dict()))) == mutual
    del values["teaching"]
    assert Candidate.from_dict(values).teaching == Teaching()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": "assistent"}, r"teaching.teacher must be a known name, but got 'assistent'; .* 'assistant'\?"),
        ({"members": 3}, "members belongs to teacher='ensemble', but got members=3 and teacher='fixed'"),
        ({"teacher": "mutual", "checkpoint": 0.5}, "checkpoint belongs to teacher='fixed'"),
        ({"checkpoint": 0.4}, "checkpoint must be one of 0.25, 0.5, 0.75, 1.0, but got checkpoint=0.4"),
        ({"teacher": "ensemble", "members": 1}, "members >= 2 must hold"),
        ({"teacher": "ensemble", "average": "mean"}, "average must be 'probability' or 'logits'"),
        ({"teacher": "assistant", "assistant_size": 1.0}, r"assistant_size must be in \(0, 1\)"),
        ({"teacher": "born_again", "generations": 1}, "generations >= 2 must hold"),
        ({"teacher": "mutual", "peers": 0}, "peers >= 1 must hold"),
        ({"teacher": "mutual", "peer_width": 0.0}, "peer_width must be"),
        ({"peer_family": "vit"}, "peer_family belongs to teacher='mutual', but got peer_family='vit'"),
        ({"peer_depths": (1,)}, "peer_depths belongs to teacher='mutual'"),
        ({"scheme": "joint"}, "scheme belongs to teacher='apprentice'"),
        (
            {"teacher": "apprentice", "scheme": "A"},
            "scheme must be one of joint, fixed, fine_tuned, but",
        ),
        ({"soft_stop": 0.0}, r"soft_stop must be in \(0, 1\]"),
    ],
)
def test_what_does_not_belong_together_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Teaching(**settings)
