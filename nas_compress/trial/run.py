"""One trial: plan, cost, training, measurement."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from nas_compress.errors import UnfitCheckpointError, describe, is_of_one_trial, lacks_memory
from nas_compress.export.onnx_file import size_steps
from nas_compress.files import TEMPORARY, make_folder
from nas_compress.measurement.pipeline import Stopwatch, measure_file, write_file
from nas_compress.models.exits.network import exit_signature
from nas_compress.training.checkpoint import Checkpoint
from nas_compress.trial.context import TrialContext
from nas_compress.trial.cost_bounds import least_cost
from nas_compress.trial.fitted_exits import exit_layer_bits, set_thresholds_, with_fitted_exits
from nas_compress.trial.generation_ensemble import write_ensemble
from nas_compress.trial.monitor import Monitor, Stopper
from nas_compress.trial.plan import TrialPlan, candidate_rules, plan_trial
from nas_compress.trial.shape import fresh_networks, fresh_student, layers_kept_whole
from nas_compress.trial.train_student import OnEpoch, teach
from nas_compress.trial.training import float_products
from nas_compress.trial.validity import CheckedCandidate
from nas_compress.values.candidate import Candidate
from nas_compress.values.outcome import Measured, Outcome

NEEDS_MEMORY = "the trial needs more memory than there is"
"""First words of the reason if a trial failed for lack of memory."""


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

    candidate: RequestError if it breaks a rule; see `CandidateRules`. A search asks the rules itself.
    stopper: may stop the training early; the state is then `stopped` and no file is written.
    shadow: train to the end and only record the epoch of the stopper's decision.
    checkpoint: file for the state of the training, written after epochs. The same call resumes from it and gives the
        same bits. The caller deletes it once the outcome is stored.

    >>> from nas_compress.callbacks import no_progress
    >>> from nas_compress.config.study_file import read_study
    >>> from nas_compress.search.setup import find_teacher, gather, make_context
    >>> parts = gather(read_study("mine"))
    >>> context = make_context(parts, find_teacher(parts, no_progress))
    >>> half = Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=0.5)
    >>> run_trial(half, context, seed=0, model=Path("half.onnx")).state
    'trained'
    """
    checked = candidate_rules(context, seed=seed).require(candidate)
    return run_checked_trial(
        checked,
        context,
        seed=seed,
        model=model,
        on_epoch=on_epoch,
        stopper=stopper,
        shadow=shadow,
        checkpoint=checkpoint,
    )


def run_checked_trial(
    checked: CheckedCandidate,
    context: TrialContext,
    *,
    seed: int,
    model: Path,
    on_epoch: OnEpoch | None = None,
    stopper: Stopper | None = None,
    shadow: bool = False,
    checkpoint: Path | None = None,
) -> Outcome:
    """Run the trial of a candidate that passed the rules for this context and seed; see `run_trial`."""
    watch = Stopwatch()
    context = context.at(checked.candidate.data_size)

    def attempt() -> Outcome:
        return _run(
            checked,
            context,
            seed=seed,
            model=model,
            on_epoch=on_epoch,
            monitor=Monitor(stopper=stopper, shadow=shadow, validation=context.validation, task=context.dataset.task),
            watch=watch,
            checkpoint=checkpoint,
        )

    try:
        with context.target.busy():
            try:
                outcome = attempt()
            except UnfitCheckpointError as error:
                context.teacher.notice(f"{error}. The trial begins again.")
                (checkpoint or model).unlink(missing_ok=True)
                outcome = attempt()
    except Exception as error:  # torch, onnx and onnxruntime raise many kinds; one trial must not end the study
        if not is_of_one_trial(error):
            raise
        reason = f"{NEEDS_MEMORY}: {describe(error)}" if lacks_memory(error) else describe(error)
        outcome = Outcome(candidate=checked.candidate, seed=seed, state="failed", reason=reason)
    return replace(outcome, seconds=watch.seconds)


def _run(
    checked: CheckedCandidate,
    context: TrialContext,
    *,
    seed: int,
    model: Path,
    on_epoch: OnEpoch | None,
    monitor: Monitor,
    watch: Stopwatch,
    checkpoint: Path | None,
) -> Outcome:
    # plan
    candidate = checked.candidate
    make_folder(model.parent)
    with TemporaryDirectory(prefix=TEMPORARY, dir=model.parent) as folder:
        plan, student = plan_trial(checked, context, seed=seed, name=model.name, folder=Path(folder), watch=watch)
    planned = Outcome(
        candidate=candidate,
        seed=seed,
        state="over_budget",
        measured=plan.cost,
        architecture=plan.architecture,
        integer_latency_ms=plan.integer_latency_ms,
        whole_layers=layers_kept_whole(candidate, context.teacher),
    )

    # cost
    least = least_cost(plan.cost, model.name, zero_pattern=candidate.sparsity.pattern)
    broken = least.broken_budgets(context.budgets)
    if broken:
        return replace(planned, reason=broken)

    # training
    count = (candidate.teaching.generations or 1) - 1
    generations = fresh_networks(
        functools.partial(fresh_student, candidate, plan.architecture, context.teacher), count, seed=seed
    )
    products = float_products(context, macs=plan.cost.whole_macs)
    derived_before = context.teacher.derived_epochs
    losses = _train(
        plan,
        [*generations, student],
        context,
        products=products,
        on_epoch=on_epoch,
        monitor=monitor,
        watch=watch,
        checkpoint=checkpoint,
    )
    trained = replace(
        planned,
        state="trained",
        epochs=plan.epochs,
        trainings=candidate.teaching.trainings,
        losses=losses,
        planned_epochs=plan.epochs,
        curve=tuple(monitor.curve),
        stopped_at=monitor.stopped_at,
        teacher_epochs=context.teacher.derived_epochs - derived_before,
        products=products,
    )
    if monitor.stopped:
        return replace(trained, state="stopped", reason=monitor.reason, epochs=monitor.curve[-1][0])

    # measurement
    measured = _measure(plan, student, generations, context, model=model, watch=watch)
    return replace(trained, measured=measured, reason=measured.shortfall(context.budgets) or None)


def _train(
    plan: TrialPlan,
    students: Sequence[nn.Module],
    context: TrialContext,
    *,
    products: str,
    on_epoch: OnEpoch | None,
    monitor: Monitor,
    watch: Stopwatch,
    checkpoint: Path | None,
) -> dict[str, float]:
    """Train the students in place, from the checkpoint if it has this training; return the terms of the last epoch."""
    monitor.begin(plan.cost, plan.epochs)
    state = None
    if checkpoint is not None:
        identity: dict[str, str | int] = {
            "candidate": plan.candidate.fingerprint,
            "seed": plan.seed,
            "epochs": plan.epochs,
            "teacher": context.teacher.fingerprint,
        }
        if products != "float32":
            identity["products"] = products  # another processor may have no such format
        state = Checkpoint(path=checkpoint, identity=identity, notes=monitor.notes, notice=context.teacher.notice)
        monitor.restore(state.known)
    losses = teach(
        plan.candidate,
        students,
        context,
        layer_bits=plan.layer_bits,
        epochs=plan.epochs,
        seed=plan.seed,
        macs=plan.cost.whole_macs,
        peer=plan.peer,
        watch=watch,
        on_epoch=on_epoch,
        monitor=monitor,
        checkpoint=state,
    )
    if state is not None:
        watch.add("training", state.before_s)
    return losses


def _measure(
    plan: TrialPlan,
    student: nn.Module,
    generations: Sequence[nn.Module],
    context: TrialContext,
    *,
    model: Path,
    watch: Stopwatch,
) -> Measured:
    """Write the trained student to `model`, with its earlier generations next to it; return the student's figures."""
    candidate, validation, task = plan.candidate, context.dataset.validation, context.dataset.task
    exits = candidate.exits
    signature = task.signature if exits is None else exit_signature(task.signature)
    write = functools.partial(
        write_file,
        precision=candidate.precision,
        layer_bits=plan.layer_bits,
        sparse=candidate.sparsity.pattern != "none",
        signature=task.signature,
        calibration=context.calibration,
        watch=watch,
    )
    if exits is None:
        deployable = write(student.cpu(), model)
    else:
        network = with_fitted_exits(student, plan.candidate, plan.layer_bits, context, watch=watch)
        deployable = write(
            network,
            model,
            signature=signature,
            layer_bits=exit_layer_bits(candidate, plan.layer_bits),
            adjust=functools.partial(set_thresholds_, exits=exits, cost=plan.cost, context=context, watch=watch),
        )
    measured = measure_file(
        deployable,
        model,
        task=task,
        activation_bits=candidate.precision.activation_bits,
        cost=plan.cost,
        validation=validation,
        target=context.target,
        named=context.named,
        watch=watch,
    )
    if candidate.sparsity.pattern != "none" or candidate.precision.quantization.weight_format == "codebook":
        with watch.stage("steps"):
            measured = replace(measured, steps=size_steps(deployable, signature))
    if generations:
        write_ensemble(generations, model, write=write, validation=validation, task=task, watch=watch)
    return measured
