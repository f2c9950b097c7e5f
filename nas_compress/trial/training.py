"""Training of one student, with fake quantization in the last epochs if quantization is trained."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nas_compress.config.schema import TrainingSection
from nas_compress.quantization.training_aware import make_aware_
from nas_compress.tasks.batch import Batch, to_device
from nas_compress.training.checkpoint import Checkpoint
from nas_compress.training.loop import train
from nas_compress.training.objective import TrainingObjective
from nas_compress.training.precision import Products, products_of
from nas_compress.training.schedule import epochs_under_rounding
from nas_compress.training.sparsity import Sparsifier
from nas_compress.trial.context import TrialContext
from nas_compress.values.candidate import Candidate, LossTerm

ROUNDING_RATE = 0.5
"""Peak learning rate with fake quantization, as a fraction of the peak before."""

FINE_TUNING_RATE = 0.1
"""The same fraction for an apprentice that starts from a full float training."""

OnEpochTerms = Callable[[int, dict[str, float]], bool]
"""(finished epochs, their terms) to whether the training ends here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PartOfObjective:
    """An objective for part of a training: progress runs from `begin` to `end`."""

    objective: TrainingObjective
    begin: float
    end: float

    @property
    def learners(self) -> Sequence[nn.Module]:
        """Modules trained together with the model."""
        return self.objective.learners

    def __call__(
        self, model: nn.Module, batch: Batch, targets: Batch, *, view: int, index: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Return the objective's terms; see `TrainingObjective`."""
        whole = self.begin + (self.end - self.begin) * progress
        return self.objective(model, batch, targets, view=view, index=index, progress=whole)


def fit(
    student: nn.Module,
    objective: TrainingObjective,
    candidate: Candidate,
    context: TrialContext,
    *,
    layer_bits: Mapping[str, int],
    epochs: int,
    seed: int,
    macs: int | None = None,
    checkpoint: Checkpoint | None = None,
    on_epoch: OnEpochTerms | None = None,
) -> dict[str, float]:
    """Train a student in place on the training device; return the loss terms of the last epoch.

    Trained quantization takes the last quarter of the epochs. The float part has a complete learning rate schedule; the
    part with fake quantization has its own, with a lower peak. An apprentice is trained with fake quantization from the
    start. Zeros are chosen before fake quantization.

    layer_bits: weight bits of each layer with fake quantization, by path.
    on_epoch: ends the training, also before fake quantization, if it returns True.
    """
    ended = False

    def watched(done: int, terms: dict[str, float]) -> bool:
        nonlocal ended
        ended = on_epoch is not None and on_epoch(done, terms)
        return ended

    zeros = candidate.sparsity
    sparsifier = None
    if zeros.pattern != "none":
        sparsifier = Sparsifier(student, pattern=zeros.pattern, fraction=zeros.fraction, seed=seed)
    rounding, rate = under_rounding(candidate, epochs)
    whole = functools.partial(
        _fit_part,
        student,
        objective,
        context,
        peak=learning_rate(candidate, context.training),
        planned=epochs,
        losses=candidate.losses,
        macs=macs,
        on_epoch=watched,
        checkpoint=checkpoint,
        sparsifier=sparsifier,
    )
    losses: dict[str, float] = {}
    if epochs > rounding:
        products: Products | None = float_products(context, macs=macs)
        losses = whole(begin=0, epochs=epochs - rounding, rate=1.0, seed=seed, products=products)
    if rounding and not ended:
        calibration = to_device(context.calibration, context.device)
        begin_rounding_(student, candidate, calibration, layer_bits=layer_bits)
        products = products_under_rounding(context.training)
        losses = whole(begin=epochs - rounding, epochs=rounding, rate=rate, seed=seed + 1, products=products)
    return losses


def float_products(context: TrialContext, *, macs: int | None) -> Products:
    """Return the format of the products in the epochs without fake quantization. macs: of one sample."""
    batch_macs = (macs or 0) * context.training.batch_size
    return products_of(context.training.precision, context.device, batch_macs=batch_macs)


def products_under_rounding(training: TrainingSection) -> Products | None:
    """Return the format of the products in the epochs with fake quantization; None for that of the device."""
    return None if training.precision == "auto" else "float32"


def learning_rate(candidate: Candidate, training: TrainingSection) -> float:
    """Peak learning rate; inherited weights may have their own."""
    own = training.inherit_learning_rate if candidate.pruning.init == "inherit" else None
    return training.learning_rate if own is None else own


def under_rounding(candidate: Candidate, epochs: int) -> tuple[int, float]:
    """Number of epochs with fake quantization, and their peak learning rate as a fraction of the float peak."""
    if not candidate.precision.quantization.is_trained:
        return 0, 1.0
    if candidate.teaching.scheme is None:
        return epochs_under_rounding(epochs), ROUNDING_RATE
    return epochs, FINE_TUNING_RATE if candidate.teaching.scheme == "fine_tuned" else 1.0


def _fit_part(
    student: nn.Module,
    objective: TrainingObjective,
    context: TrialContext,
    *,
    peak: float,
    begin: int,
    epochs: int,
    planned: int,
    rate: float,
    seed: int,
    losses: Sequence[LossTerm],
    macs: int | None = None,
    products: Products | None,
    on_epoch: OnEpochTerms,
    checkpoint: Checkpoint | None,
    sparsifier: Sparsifier | None,
) -> dict[str, float]:
    return train(
        student,
        context.train,
        context.augmentation(losses),
        objective=PartOfObjective(objective=objective, begin=begin / planned, end=(begin + epochs) / planned),
        epochs=epochs,
        batch_size=context.training.batch_size,
        learning_rate=peak * rate,
        weight_decay=context.training.weight_decay,
        seed=seed,
        first_epoch=begin,
        draws=context.draws(losses),
        macs=macs,
        products=products,
        sparsifier=sparsifier,
        pause=context.target.pause,
        checkpoint=checkpoint,
        on_epoch=lambda done, terms: on_epoch(begin + done, terms),
    )


def begin_rounding_(
    student: nn.Module, candidate: Candidate, calibration: Batch, *, layer_bits: Mapping[str, int]
) -> None:
    """Give a student fake quantization in its candidate's precision. calibration: samples on its device."""
    make_aware_(
        student,
        method=candidate.precision.quantization.method,
        bits=layer_bits,
        activation_bits=candidate.precision.activation_bits,
        calibration=calibration,
        ranges=candidate.precision.quantization.ranges,
        weight_format=candidate.precision.quantization.weight_format,
        with_zeros=candidate.sparsity.pattern != "none",
    )
