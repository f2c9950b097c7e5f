"""Every exception of nas_compress.

NasCompressError
├── RequestError        the request is wrong, nothing was written (exit code 2)
│   ├── UntraceableError    a network has no fixed graph for integer kernels
│   └── NotBytesError       samples that were to be stored as bytes are none; they are stored as floats
├── RunError            the run cannot continue: disk, permission, storage (exit code 1)
│   └── DamagedFileError    a file does not match its checksum, or is none of ours
│       └── UnfitCheckpointError    a whole checkpoint belongs to another training
└── TrialError          one trial failed; the study records the reason and continues
    ├── NonFiniteLossError
    ├── MetricError
    ├── ExportError
    ├── FloatKernelError
    └── DeviceLostError     a named device cannot measure now; its figures are missing and asked for later
"""

from __future__ import annotations

import contextlib
import difflib
import errno
from collections.abc import Iterable, Mapping


class NasCompressError(Exception):
    """Root of all exceptions raised on purpose by nas_compress.

    >>> from nas_compress import Candidate
    >>> try:
    ...     Candidate(family="resnet", depths=(1, 1, 1), pruning_ratio=1.2)
    ... except NasCompressError as error:
    ...     print(error)
    0 <= pruning_ratio < 1 must hold, but got pruning_ratio=1.2
    """


class RequestError(NasCompressError):
    """The request is wrong. The message is one line: rule, value, file and key."""


class UntraceableError(RequestError):
    """A network decides something by numbers that are only known when it runs."""


class NotBytesError(RequestError):
    """Floats in steps of 1/255 were expected, but a sample has others."""


class RunError(NasCompressError):
    """The run cannot continue for a reason outside the request, such as a full disk."""


class DamagedFileError(RunError):
    """A file does not match its checksum, or is none of ours. The message names it and the way out."""


class UnfitCheckpointError(DamagedFileError):
    """A whole checkpoint belongs to another training. Nothing was restored from it."""


class TrialError(NasCompressError):
    """One trial cannot be finished; the study records the reason and continues."""


class NonFiniteLossError(TrialError):
    """A loss term became infinite or not a number."""


class MetricError(TrialError):
    """A metric of the user raised an error or returned no finite number."""


class ExportError(TrialError):
    """The outputs of the exported file and its module differ."""


class FloatKernelError(TrialError):
    """The optimised graph of an integer file computes a convolution or a product in float.

    shapes: of the weights there, in any order of their dimensions.
    """

    def __init__(self, message: str, shapes: Iterable[tuple[int, ...]] = ()) -> None:
        super().__init__(message)
        self.shapes = tuple(shapes)


class DeviceLostError(TrialError):
    """A named device cannot measure at the moment: out of reach, switched off, or with an answer that is not valid.

    Measurements catch it: the figure is missing, and is asked for again later. No trial fails by it.
    """


def refusal(message: str, where: str) -> RequestError:
    """Make a RequestError of one line. where: file and key, such as `study.toml: data.factory`."""
    line = " ".join(message.split())
    return RequestError(f"{line} ({where})" if where else line)


def printable(text: str) -> str:
    r"""Escape line breaks and characters that control a terminal; names on disk may contain them.

    >>> print(printable("name \x1b[31m, größer\n"))
    name \x1b[31m, größer\n
    """
    with contextlib.suppress(UnicodeEncodeError):  # bytes of a name in another encoding
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def describe(error: BaseException) -> str:
    """Return an exception's type and text in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, or its type if the text is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "unable to mmap", "bad_alloc", "bad allocation")
"""Texts of failed allocations in torch, CUDA and onnxruntime."""


def lacks_memory(error: BaseException) -> bool:
    """True if an exception is a failed allocation.

    >>> [lacks_memory(error) for error in (MemoryError(), RuntimeError("CUDA out of memory."), OSError(28, "full"))]
    [True, True, False]
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    by_text = any(words in str(error) for words in NO_MEMORY) and not isinstance(error, NasCompressError)
    return by_text or isinstance(error, MemoryError)


def is_of_one_trial(error: Exception) -> bool:
    """True for an error of one candidate, False for errors that end the study (a full disk, a bad request).

    >>> [is_of_one_trial(error) for error in (ValueError(), OSError(12, "memory"), OSError(28, "full"), RunError())]
    [True, True, False, False]
    """
    if isinstance(error, (RequestError, RunError)):
        return False
    return not isinstance(error, OSError) or lacks_memory(error)


OTHER_WORDS: Mapping[str, str] = {
    word: name
    for name, words in {
        "accuracy": "acc top1 top_1 top1_accuracy error error_rate precision_at_1",
        "top_5_accuracy": "top5 top5_accuracy precision_at_5",
        "balanced_accuracy": "uar bacc mean_class_accuracy",
        "f1_macro": "f1 f1_score fscore dice macro_f1",
        "f1_micro": "micro_f1",
        "exact_match": "subset_accuracy",
        "auroc": "auc roc_auc roc",
        "average_precision": "ap map pr_auc auprc",
        "mean_iou": "iou miou jaccard",
        "mse": "rmse l2 squared_error",
        "mae": "l1 absolute_error",
        "r2": "r_squared explained_variance",
        "latency_ms": "inference_time runtime speed time ms",
        "latency_p95_ms": "p95 tail_latency",
        "samples_per_s": "throughput fps images_per_second qps",
        "size_bytes": "file_size model_size bytes kb mb megabytes",
        "parameters": "n_params num_params weights_count",
        "macs": "flops gflops mult_adds multiply_adds madds",
        "energy_mj": "power joules",
        "peak_memory_bytes": "memory peak_memory rss",
        "flash_bytes": "rom",
        "data": "dataset datasets augmentation dataloader",
        "teacher": "model network pretrained",
        "training": "optimizer optimiser optim hyperparameters student fit",
        "budgets": "constraints limits",
        "search": "optuna nas tuner",
        "objectives": "goals",
        "target": "hardware",
        "learning_rate": "lr max_lr",
        "batch_size": "bs batch",
        "weight_decay": "wd l2_regularization",
        "trials": "n_trials num_trials",
    }.items()
    for word in words.split()
}
"""Names of this package by words that others use for the same."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Suggest the valid name nearest to a wrong one, by meaning or letters, or list them all.

    >>> nearest("flops", ["latency_ms", "macs"]), nearest("latncy_ms", ["latency_ms", "macs"])
    ("; did you mean 'macs'?", "; did you mean 'latency_ms'?")
    """
    names = sorted(valid)
    if not names:
        return ""
    meant = OTHER_WORDS.get(name.lower().replace("-", "_").replace(" ", "_"))
    if meant in names:
        return f"; did you mean {meant!r}?"
    longer = [valid_name for valid_name in names if name and valid_name.startswith(name)]
    close = longer or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; valid are {', '.join(names)}"


def require_known(kind: str, name: str, valid: Iterable[str], where: str = "") -> None:
    """Raise RequestError unless `name` is one of `valid`. where: file and key for the message."""
    names = list(valid)
    if name not in names:
        place = f" ({where})" if where else ""
        raise RequestError(f"{kind} must be a known name, but got {name!r}{place}{nearest(name, names)}")
