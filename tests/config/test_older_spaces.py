"""Search spaces that were written for earlier versions of the package."""

from __future__ import annotations

from pathlib import Path

from nas_compress.candidate import Candidate
from nas_compress.config.search_space import load_space, sample_space
from nas_compress.config.suggest import Suggest
from nas_compress.space.suggest import Suggest as SuggestBefore
from nas_compress.values.candidate import Candidate as CandidateNow

OWN = '''"""A space of the user."""
from nas_compress import Candidate
from nas_compress.candidate import cross_entropy, distillation
def suggest(trial):
    losses = distillation(hard_weight=0.1, soft_weight=0.9, temperature=2.0)
    bits = trial.suggest_categorical("bits", [8, 32])
    return Candidate(family="resnet", depths=(1, 1, 1), weight_bits=bits, activation_bits=bits, losses=losses)
'''

MADE_BY_INIT = '''"""A copy of a built-in space."""
from nas_compress.candidate import Candidate, LossTerm, Quantization, Teaching, cross_entropy, label_smoothing
from nas_compress.space.suggest import Suggest
from nas_compress.teaching import temperatures
def suggest(trial: Suggest) -> Candidate:
    bits = trial.suggest_categorical("bits", [4, 8])
    temperature = trial.suggest_categorical("temperature", temperatures(bits))
    losses = (LossTerm(name="kd", settings={"temperature": temperature}), *label_smoothing())
    return Candidate(family="resnet", depths=(1, 1, 1), weight_bits=bits, losses=losses)
'''


def test_a_space_with_the_modules_of_earlier_versions_is_loaded(tmp_path: Path) -> None:
    for number, text in enumerate((OWN, MADE_BY_INIT)):
        (tmp_path / f"space{number}.py").write_text(text)
        space = load_space(f"space{number}.py", folder=tmp_path, shipped=tmp_path, where="study.toml: space")
        candidates = sample_space(space, draws=8, seed=0).candidates
        assert {candidate.shape.family for candidate in candidates} == {"resnet"}


def test_the_names_are_those_of_today() -> None:
    assert Candidate is CandidateNow and SuggestBefore is Suggest
