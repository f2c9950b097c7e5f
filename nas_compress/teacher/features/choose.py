"""Whether a student's training reads stored features or runs the teacher for each batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from nas_compress.files import digest_of_values
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.features import Observation
from nas_compress.tasks.batch import device_of
from nas_compress.teacher.features.stored import Observe, cached_features, features_bytes, observer, parts_of
from nas_compress.teacher.teacher import Teacher
from nas_compress.training.objective import observe

MOST_BYTES = 2**30
"""Largest file of features; of larger ones the teacher runs for each batch."""


def stored_features(
    teacher: Teacher,
    loss: TrainingLoss,
    seen: Observation,
    *,
    epochs: int,
    batch: int,
    pause: Callable[[], None] | None = None,
) -> Observe | None:
    """Return the teacher's stored features for a loss, computed on first use; None if it runs for each batch.

    seen: an observation of any batch by the teacher. epochs: of a training. batch: its samples of a step.

    Features are stored if the teacher trains on a CPU, its views are no more than the epochs, so that one training
    already gains, and all fit into MOST_BYTES. Tokens are not stored, because their batches have several lengths, and
    neither are features for a loss that reads outputs too.
    """
    samples, augmentation = teacher.train_samples, teacher.dataset.augmentation
    names, layers = loss.teacher_features, loss.teacher_relations
    if not (names or layers) or loss.reads_outputs or samples.tokens or device_of(samples.inputs).type != "cpu":
        return None
    parts = parts_of(seen, features=names, relations=layers)
    count, views = len(samples), augmentation.count
    if views > epochs or features_bytes(parts, samples=count, views=views) > MOST_BYTES:
        return None
    watched = teacher.section.features

    def run(network: nn.Module, inputs: Mapping[str, Tensor]) -> Observation:
        return observe(network, inputs, teacher.dataset.task, relations=bool(layers), watched=watched)

    identity = {
        "teacher": teacher.fingerprint,
        "weights": teacher.weights_digest,
        "data": teacher.dataset.fingerprint,
        "views": augmentation.identity,
    }
    batch = min(batch, count)
    key = digest_of_values({**identity, "parts": [[part.name, part.relation] for part in parts], "batch": batch})
    if key not in teacher.stored_features:
        whole = augmentation.over(samples.inputs)  # its order: a function of the user changes each block once
        teacher.stored_features[key] = cached_features(
            teacher.folder / f"features-{key[:16]}.f32",
            observer(teacher.network, samples, augmentation, run, pause),
            parts,
            samples=count,
            views=views,
            batch=batch,
            patches=seen.patches,
            identity=identity,
            notice=teacher.notice,
            order=lambda view: whole.order(count, view, None),
            on_view=lambda done, planned: teacher.progress("teacher features", done, planned),
        )
    return teacher.stored_features[key]
