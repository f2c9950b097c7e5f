"""Reason for the end of a device's command, in fixed words: what a command prints may hold names and paths."""

from __future__ import annotations

from nas_compress.devices.remote.agent import TIMED_OUT

_MISSING, _FORBIDDEN = 127, 126
"""Exit codes of a shell for a command that is not found or that may not be executed."""

_PRINTED: tuple[tuple[str, str], ...] = (
    ("remote host identification has changed", "its host key differs from the key that ssh knows"),
    ("host key verification failed", "its host key is not known to ssh; connect once in a terminal and accept it"),
    ("permission denied (", "ssh is not allowed to log in"),
    ("could not resolve hostname", "ssh cannot find its address"),
    ("connection refused", "no ssh server answers at its address"),
    ("connection timed out", "no ssh server answers at its address"),
    ("no route to host", "there is no network route to it"),
    ("network is unreachable", "there is no network route to it"),
    ("no module named", "Python lacks a package there; the agent needs onnxruntime and numpy"),
    ("command not found", "the agent's command is not found there"),
    ("can't open file", "the agent's file is not found there"),
    ("permission denied", "the agent's file may not be executed there"),
)
"""Words in the messages of ssh, of shells and of Python, in small letters, and the reason that they show."""


def why_ended(code: int | None, printed: str) -> str:
    """Return the reason for the end of a command.

    code: its exit code, None if it still runs. printed: the end of its standard error.

    >>> why_ended(255, "alice@pi: Permission denied (publickey).")
    'ssh is not allowed to log in'
    >>> why_ended(1, "secret")
    'its command ended with exit code 1'
    """
    small = printed.lower()
    for words, reason in _PRINTED:
        if words in small:
            return reason
    if code is None:
        return "it closed its output"
    if code == _MISSING:
        return "the agent's command is not found there"
    if code == _FORBIDDEN:
        return "the agent's file may not be executed there"
    if code == TIMED_OUT:
        return "a request took too long there"
    return f"its command ended {f'by signal {-code}' if code < 0 else f'with exit code {code}'}"
