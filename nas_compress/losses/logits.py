"""Losses of the student's logits, against the labels or the teacher's logits.

Shapes: student_logits and teacher_logits (B, C), labels (B,) int64, or (B, C) float for soft labels. Each function
returns a scalar in float32, and no gradient reaches the teacher.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_OUT = -1e9
"""Logit of a masked class. Infinity would give 0 * infinity in the divergence."""


def cross_entropy(
    student_logits: Tensor, labels: Tensor, *, smoothing: float = 0.0, weight: Tensor | None = None
) -> Tensor:
    """Mean over the batch of `-sum_c q_c log p_c` with `q = (1 - smoothing) onehot + smoothing / C`.

    weight: of each class (C,); the mean is then the weighted one of torch.

    Label smoothing: Szegedy et al. 2016, arXiv 1512.00567, section 7.
    """
    return F.cross_entropy(student_logits.float(), labels, weight=weight, label_smoothing=smoothing)


def teacher_free(student_logits: Tensor, labels: Tensor, *, confidence: float, temperature: float) -> Tensor:
    """`T^2 * mean_b KL(softmax(log(p) / T) || softmax(student / T))`.

    p is a virtual teacher: probability `confidence` for the label, and the rest in equal shares for the other classes
    (Yuan et al. 2020, arXiv 1909.11723, section 4.2).
    """
    classes = student_logits.shape[1]
    other = math.log((1 - confidence) / (classes - 1))
    if labels.is_floating_point():  # a mixture of virtual teachers
        virtual = (math.exp(other) + (confidence - math.exp(other)) * labels).log()
    else:
        virtual = torch.full(student_logits.shape, other, device=student_logits.device)
        virtual = virtual.scatter(1, labels[:, None], math.log(confidence))
    target = F.log_softmax(virtual / temperature, dim=1)
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    return F.kl_div(student, target, reduction="sum", log_target=True) * (temperature**2 / len(student))


def kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """`T^2 * mean_b KL(softmax(teacher / T) || softmax(student / T))`, summed over classes.

    Hinton, Vinyals, Dean 2015, arXiv 1503.02531.
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=1)
    # T^2 and the mean are one factor: an operation on a scalar costs as much as one on the small batch
    return F.kl_div(student, teacher, reduction="sum", log_target=True) * (temperature**2 / len(student))


def permuted_kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """`kd` after a random permutation of each sample's teacher logits, except the largest.

    A control ("DKPP" of Furlanello et al. 2018, arXiv 1805.04770): it keeps the teacher's confidence and removes its
    ranking of the wrong classes. The order is drawn from torch's global random state.
    """
    return kd(student_logits, permuted(teacher_logits.detach()), temperature=temperature)


def permuted(logits: Tensor) -> Tensor:
    """Logits (B, C) in random order within each row; the largest stays in place."""
    largest = logits.argmax(dim=1, keepdim=True)
    places = torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
    noise = torch.rand(logits.shape, device=logits.device)
    # both lists start with the largest class; the others follow in order in one list and at random in the other
    order = places.float().scatter(1, largest, -1.0).argsort(dim=1)
    mixed = noise.scatter(1, largest, -1.0).argsort(dim=1)
    return torch.zeros_like(logits).scatter(1, order, logits.gather(1, mixed))


def hard_label(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean cross-entropy on the teacher's most likely class.

    Touvron et al. 2021, arXiv 2012.12877, section 4.
    """
    return F.cross_entropy(student_logits.float(), teacher_logits.detach().argmax(dim=1))


def label_refinery(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """`-mean_b sum_c softmax(teacher)_c log softmax(student)_c`: soft targets without a temperature.

    Bagherinezhad et al. 2018, arXiv 1805.02641: the teacher's answers to the same view replace the labels.
    """
    return F.cross_entropy(student_logits.float(), teacher_logits.detach().float().softmax(dim=1))


def dkd(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float, beta: float
) -> Tensor:
    """`T^2 * (alpha * TCKD + beta * NCKD)`: decoupled distillation.

    TCKD: mean_b KL of the label's class against the rest. NCKD: mean_b KL among the rest; with two classes the rest is
    one class and NCKD is 0. Zhao et al. 2022, arXiv 2203.08679, equation 7.
    """
    own = F.one_hot(labels, student_logits.shape[1]).bool()
    student_binary, student_rest = _decoupled(student_logits.float() / temperature, own)
    teacher_binary, teacher_rest = _decoupled(teacher_logits.detach().float() / temperature, own)
    target = F.kl_div(student_binary, teacher_binary, reduction="batchmean", log_target=True)
    others = F.kl_div(student_rest, teacher_rest, reduction="batchmean", log_target=True)
    return (alpha * target + beta * others) * temperature**2


def dkd_warning(classes: int) -> str | None:
    """Return the warning about `dkd` with two classes."""
    return (
        "dkd with two classes: there is one wrong class, so NCKD is 0 and only TCKD remains" if classes == 2 else None
    )


def _decoupled(logits: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (label, rest), (B, 2), and of the classes within the rest, (B, C)."""
    rest = logits.masked_fill(own, _OUT)
    logs = torch.stack([logits[own], rest.logsumexp(dim=1)], dim=1)
    return logs.log_softmax(dim=1), rest.log_softmax(dim=1)


def dist(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float, beta: float, gamma: float) -> Tensor:
    """`T^2 * (beta * inter + gamma * intra)`: correlations instead of probabilities.

    Each part is 1 minus the mean Pearson correlation of softened probabilities. inter: over the classes of each
    sample. intra: over the samples of each class, so a tiny batch is not enough. Huang et al. 2022, arXiv 2205.10536,
    equations 6-9.
    """
    student = (student_logits.float() / temperature).softmax(dim=1)
    teacher = (teacher_logits.detach().float() / temperature).softmax(dim=1)
    inter = 1 - _pearson(student, teacher).mean()
    intra = 1 - _pearson(student.T, teacher.T).mean()
    return (beta * inter + gamma * intra) * temperature**2


def _pearson(first: Tensor, second: Tensor) -> Tensor:
    """Correlation of each pair of rows; 0 for a constant row."""
    return F.cosine_similarity(
        first - first.mean(dim=1, keepdim=True), second - second.mean(dim=1, keepdim=True), dim=1, eps=1e-8
    )
