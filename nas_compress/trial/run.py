"""One trial: shape, cost of the untrained file, training from scratch, the file that ships, its figures."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from nas_compress.errors import describe, is_of_one_trial, lacks_memory
from nas_compress.export.onnx_file import size_steps
from nas_compress.files import TEMPORARY
from nas_compress.measurement.pipeline import Stopwatch, measure_file
from nas_compress.training.checkpoint import Checkpoint
from nas_compress.training.schedule import planned_epochs
from nas_compress.trial.born_again import earlier_generations, write_ensemble
from nas_compress.trial.context import TrialContext
from nas_compress.trial.kernel_choice import write_student
from nas_compress.trial.monitor import Monitor, Stopper
from nas_compress.trial.mutual_peers import macs_together
from nas_compress.trial.teach import OnEpoch, teach
from nas_compress.trial.untrained_cost import least_size, make_untrained
from nas_compress.trial.validity import check_candidate
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics import Budget
from nas_compress.values.outcome import Measured, Outcome

NEEDS_MEMORY = "the trial needs more memory than there is"
"""How the reason of a trial begins that could not get its memory."""


def run_trial(
    candidate: Candidate,
    context: TrialContext,
    *,
    seed: int,
    model: Path,
    on_epoch: OnEpoch | None = None,
    stopper: Stopper | None = None,
    shadow: bool = False,
    checkpoint: Path | None = None,
) -> Outcome:
    """Train the candidate from scratch and write its ONNX file to `model`, compressed if the name ends in `.xz`.

    The untrained file is measured first, in a temporary folder next to `model`. Latency is independent of the weights,
    and the trained file has at least `least_size` bytes. If these figures break a budget, the state is `over_budget`
    and nothing is trained. An error of this candidate, including lack of memory, makes the state `failed`.
    RequestError, RunError, a full disk and interrupts are raised.

    stopper: may stop the training early; the state is then `stopped` and no file is written.
    shadow: train to the end and only record the epoch at which the stopper would have stopped.
    checkpoint: file for the state of the training, written after epochs. The same call resumes from it and gives the
        same bits. The caller deletes it once the outcome is stored.

    >>> from nas_compress.devices.onnxruntime_cpu.latency import LatencyMeter
    >>> from nas_compress.config.study_file import read_study
    >>> from nas_compress.search.setup import find_teacher, gather, make_context
    >>> parts = gather(read_study("mine"))
    >>> context = make_context(parts, find_teacher(parts, lambda name, done, count: None), LatencyMeter())
    >>> half = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5)
    >>> run_trial(half, context, seed=0, model=Path("half.onnx")).state
    'trained'
    """
    watch = Stopwatch()
    check_candidate(candidate)
    try:
        monitor = Monitor(stopper=stopper, shadow=shadow, validation=context.validation, task=context.dataset.task)
        with context.meter.window.busy():
            return _run(
                candidate,
                context,
                seed=seed,
                model=model,
                on_epoch=on_epoch,
                monitor=monitor,
                watch=watch,
                place=checkpoint,
            )
    except Exception as error:  # torch, onnx and onnxruntime raise many kinds; one trial must not end the study
        if not is_of_one_trial(error):
            raise
        reason = f"{NEEDS_MEMORY}: {describe(error)}" if lacks_memory(error) else describe(error)
        return Outcome(candidate=candidate, seed=seed, state="failed", reason=reason, seconds=watch.seconds)


def _run(
    candidate: Candidate,
    context: TrialContext,
    *,
    seed: int,
    model: Path,
    on_epoch: OnEpoch | None,
    monitor: Monitor,
    watch: Stopwatch,
    place: Path | None,
) -> Outcome:
    # shape and cost, before any training
    model.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=TEMPORARY, dir=model.parent) as folder:
        made = make_untrained(candidate, context, seed=seed, folder=Path(folder), name=model.name, watch=watch)
    architecture, student, layer_bits, form = made.architecture, made.student, made.layer_bits, made.form
    cost, shipped = form.cost, form.candidate
    least = least_size(cost.size_bytes, model.name, zero_pattern=candidate.zero_pattern)
    broken = broken_budgets(replace(cost, size_bytes=least), context.budgets)
    if broken:
        return Outcome(
            candidate=candidate,
            seed=seed,
            state="over_budget",
            measured=cost,
            architecture=architecture,
            reason=broken,
            seconds=watch.seconds,
            integer_latency_ms=form.integer_latency_ms,
        )

    # training from scratch
    epochs = planned_epochs(
        epochs=context.training.epochs,
        budget=context.training.budget,
        cap=context.training.cap,
        macs=macs_together(candidate, cost.macs, context, seed=seed),
        teacher_macs=context.teacher_macs,
    )
    count = (candidate.teaching.generations or 1) - 1
    generations = [*earlier_generations(architecture, count, build=context.teacher.build, seed=seed), student]
    monitor.begin(cost, epochs)
    checkpoint = None if place is None else _checkpoint(place, shipped, seed=seed, epochs=epochs, monitor=monitor)
    derived_before = context.teacher.derived_epochs
    losses = teach(
        shipped,
        generations,
        context,
        epochs=epochs,
        seed=seed,
        watch=watch,
        on_epoch=on_epoch,
        monitor=monitor,
        checkpoint=checkpoint,
    )
    if checkpoint is not None:
        watch.add("training", checkpoint.before_s)
    trained = Outcome(
        candidate=candidate,
        seed=seed,
        state="trained",
        measured=cost,
        architecture=architecture,
        epochs=epochs,
        trainings=candidate.teaching.trainings,
        losses=losses,
        planned_epochs=epochs,
        curve=tuple(monitor.curve),
        spoke_at=monitor.stopped_at,
        integer_latency_ms=form.integer_latency_ms,
        teacher_epochs=context.teacher.derived_epochs - derived_before,
    )
    if monitor.stopped:
        return replace(
            trained, state="stopped", reason=monitor.reason, epochs=monitor.curve[-1][0], seconds=watch.seconds
        )

    # the file that ships, and its figures
    write = functools.partial(
        write_student, candidate=shipped, layer_bits=layer_bits, calibration=context.calibration, watch=watch
    )
    deployable = write(student.cpu(), model)
    measured = measure_file(
        deployable, model, cost=cost, validation=context.dataset.validation, meter=context.meter, watch=watch
    )
    if candidate.zero_pattern != "none" or candidate.quantization.weight_format == "codebook":
        with watch.stage("steps"):
            measured = replace(measured, steps=size_steps(deployable, architecture.input_shape))
    if len(generations) > 1:
        write_ensemble(generations[:-1], model, write=write, validation=context.dataset.validation, watch=watch)
    broken = broken_budgets(measured, context.budgets)
    return replace(trained, measured=measured, reason=broken or None, seconds=watch.seconds)


def _checkpoint(place: Path, candidate: Candidate, *, seed: int, epochs: int, monitor: Monitor) -> Checkpoint:
    """The state that a killed process left of this training, if any."""
    identity: dict[str, str | int] = {"candidate": candidate.fingerprint, "seed": seed, "epochs": epochs}
    identity["torch"] = str(torch.__version__)
    checkpoint = Checkpoint(path=place, identity=identity, notes=monitor.notes)
    monitor.restore(checkpoint.known)
    return checkpoint


def broken_budgets(measured: Measured, budgets: tuple[Budget, ...]) -> str:
    """Every budget that a measured figure breaks, in words; empty where none is. Unmeasured figures break none."""
    broken = []
    for budget in budgets:
        value = getattr(measured, budget.name)
        if value is not None and budget.violation(value) > 0:
            broken.append(f"{budget} must hold, but {budget.name} is {value:.6g}")
    return "; ".join(broken)
