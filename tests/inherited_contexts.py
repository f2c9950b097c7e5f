"""Trials on made sentences of ids, with a teacher that is fine-tuned from a small folder of BERT."""

from __future__ import annotations

from pathlib import Path

from bert_folders import INNER, LAYERS, PIECES, WIDTH, write_bert_folder
from made_contexts import WORDS, context_on
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.trial.context import TrialContext
from nas_compress.values.candidate import Candidate
from nas_compress.values.family_settings import EncoderSettings

ALL = Candidate(family="encoder", depths=(LAYERS,), init="inherit", round_to=1, settings=EncoderSettings(max_tokens=16))
"""A student with every layer, width and setting of the teacher."""


def bert_context(home: Path) -> TrialContext:
    """Trials of one epoch; the teacher has learned for one epoch too. home: keeps the folder and the teacher."""
    write_bert_folder(home / "bert")
    code = WORDS.replace("token_input(12)", f"token_input({len(PIECES)})").replace("split(320)", "split(96)")
    (home / "made.py").write_text(code)
    section = TeacherSection(
        family="encoder",
        widths=(WIDTH,),
        depths=(LAYERS,),
        settings=EncoderSettings(heads=3, mlp_ratio=INNER / WIDTH, max_tokens=16),
        hugging_face="bert",
        fine_tune="all",
        epochs=1,
        learning_rate=1e-3,
    )
    return context_on(load_dataset(factory="made:load", folder=home), home, section, epochs=1)
