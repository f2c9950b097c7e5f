"""Parts of the files that `init` writes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

STUDY = """\
# {name}: which small students of my network are best?
#   nas-compress check {folder}     feasible budgets and expected hours
#   nas-compress run {folder}       search; the same command continues after any stop
name = "{name}"
space = "space.py"              # next to this file: the search space
trials = 24                     # in total; a larger number continues the same study
objectives = ["{metric}", "latency_ms", "size_bytes"]    # nas-compress list metrics
seed = 0

[data]
{data}

[teacher]
{teacher}

[training]                      # of every trial, from scratch; never searched
epochs = {epochs}
batch_size = {batch_size}
learning_rate = {learning_rate:<16}# the peak of one cycle

[search]
sampler = "ehvi"                # nas-compress list samplers

# [budgets]                     # limits; a trial that breaks one ends before training
# size_bytes = {{ at_most = 64000 }}
# latency_ms = {{ at_most = 0.1 }}
# {metric} = {{ {limit} }}
"""

OWN_DATA = """\
factory = "{data}"    # returns {{"train": (inputs, labels), "test": (inputs, labels)}}"""

OF_TEXTS = """\
text = {path}           # also .tsv and .jsonl, or a folder with train.csv, validation.csv and test.csv
text_column = {text}       # joined by a space
label_column = {label}
test_share = {share}               # held out for nas-compress confirm
{ids}
max_tokens = {longest}                # further word pieces of a text are left out"""

OF_PIECES = "vocabulary = 4000               # word pieces, learned from the training texts"

OF_HASHES = """\
hash_buckets = {buckets}             # words by a hash; with nas-compress[text], vocabulary = 4000 learns word pieces"""

OF_SOUNDS = """\
folder = {folder}          # .wav files, 16 bits, in a folder for each class; or train, val and test with such folders
seconds = {seconds}                   # shorter sounds end in silence, longer ones are cut
mels = {mels}                       # bands of the spectrogram"""

OF_SPEAKERS = """
speaker_part = {part}                # names the speaker, as in {name}; a split has whole speakers"""

OF_PICTURES = """\
folder = {folder}          # a folder for each class; or train, val and test with such folders
image_size = {size}                 # pixels of a side, cropped to a square and shrunk; [{half}, {size}] searches it"""

FEWER = """
train_samples = {count}            # of {samples}, for a first run of minutes; remove this line to train on all"""

OF_IMAGES = """
# shift = 1                     # augmentation of training samples: moved by up to this many pixels
# flip = true                   # mirrored, if a mirrored image keeps its class
# crop = 0.5                    # a part of at least this share of the area, resized
# erase = 0.25                  # a rectangle of the mean, with this probability
# cutmix = 1.0                  # a rectangle of another sample, with soft labels"""

OF_SPECTROGRAMS = """
# spec_augment = {{ frequency = {frequency}, time = {time} }}    # spectrograms: masks"""

OF_AMOUNTS = """
# mixup = 0.2                   # mixed with another sample, with soft targets"""

OF_ANY = """
# augment = "my_data:augment"   # your function of (batch, generator)
# views = 16                    # random views of each sample, one for each epoch"""

BUILT_IN_DATA = """\
name = "{data}"                 # nas-compress list data
# train_samples = 500           # fewer, for a quick start"""

OWN_TEACHER = """\
factory = "{model}"    # returns an nn.Module: raw samples in, {outputs} out
weights = {weights}           # a state dict: .safetensors, or readable by torch.load(weights_only=True)"""

FILE_TEACHER = """\
weights = {weights}           # an ONNX or TorchScript file: it teaches by its answers"""

TIMM_TEACHER = """\
timm = "{model}"                # built for the size, channels and classes of the data
weights = {weights}           # a state dict or a training checkpoint"""

FOLDER_TEACHER = """\
hugging_face = {model}        # a local folder with config.json and weights"""

STEM_STRIDE = """
stem_stride = 2                 # the first layer halves the sides"""

TRAINED_TEACHER = """\
family = "{family}"               # trained once and kept; nas-compress list families
widths = [{widths}]
depths = [{depths}]
epochs = {teacher_epochs}
learning_rate = {teacher_learning_rate}"""

HEADER = '''"""Search space of {name}. Edit it freely; nas-compress check prints its size.

suggest(trial) is called for each trial. A choice inside an `if` is made only if the condition holds. A changed space is
a new study.
"""
# Copied from the built-in space {space}.
'''


def output_line(output: str | None) -> str:
    """Return the line of `teacher.output`, a name or a place; empty for None."""
    if output is None:
        return ""
    return f"\noutput = {output if re.fullmatch('-?[0-9]+', output) else json.dumps(output, ensure_ascii=False)}"


def study_name(folder: Path) -> str:
    """Return the folder's name with a hyphen for characters that a study's name must not have."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(os.path.realpath(folder)).name)
    return re.sub(r"^[^A-Za-z0-9]+", "", name) or "study"
