"""Every exception of nas_compress.

NasCompressError
├── RequestError        what was asked for is wrong: nothing was written (exit code 2)
├── RunError            the run could not go on: disk, permission, storage (exit code 1)
└── TrialError          one trial failed: recorded with its reason, the study goes on
    ├── NonFiniteLossError
    ├── ExportError
    └── FloatKernelError
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


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
    """What was asked for is wrong; the message is one line: the rule, the value, where it stands."""


class RunError(NasCompressError):
    """The run cannot go on for a reason outside the request, such as a full disk."""


class TrialError(NasCompressError):
    """One trial cannot be finished; the study records the reason and goes on."""


class NonFiniteLossError(TrialError):
    """A loss term became infinite or not a number."""


class ExportError(TrialError):
    """The exported file does not answer like the module that it was made from."""


class FloatKernelError(TrialError):
    """An integer file whose optimised graph still computes a convolution or a product in float."""


def refusal(message: str, where: str) -> RequestError:
    """A RequestError of one line; `where` names the file and key, such as `study.toml: data.factory`."""
    line = " ".join(message.split())
    return RequestError(f"{line} ({where})" if where else line)


def describe(error: BaseException) -> str:
    """An exception's type and text in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "unable to mmap", "bad_alloc", "bad allocation")
"""How torch, CUDA and onnxruntime say that an allocation failed."""


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception says that there is not enough memory.

    >>> [lacks_memory(error) for error in (MemoryError(), RuntimeError("CUDA out of memory."), OSError(28, "full"))]
    [True, True, False]
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    spoken = any(words in str(error) for words in NO_MEMORY) and not isinstance(error, NasCompressError)
    return spoken or isinstance(error, MemoryError)


def is_of_one_trial(error: Exception) -> bool:
    """Whether an error is that of one candidate, which must not end the study; a full disk and a bad request do.

    >>> [is_of_one_trial(error) for error in (ValueError(), OSError(12, "memory"), OSError(28, "full"), RunError())]
    [True, True, False, False]
    """
    if isinstance(error, (RequestError, RunError)):
        return False
    return not isinstance(error, OSError) or lacks_memory(error)


def nearest(name: str, valid: Iterable[str]) -> str:
    """Say which valid name is nearest to a wrong one, or list them all: `; did you mean 'resnet'?`."""
    names = sorted(valid)
    if not names:
        return ""
    longer = [valid_name for valid_name in names if name and valid_name.startswith(name)]
    close = longer or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; valid are {', '.join(names)}"


def require_known(kind: str, name: str, valid: Iterable[str], where: str = "") -> None:
    """Raise RequestError unless `name` is one of `valid`; `where` tells the file and key."""
    names = list(valid)
    if name not in names:
        place = f" ({where})" if where else ""
        raise RequestError(f"{kind} must be a known name, but got {name!r}{place}{nearest(name, names)}")
