"""A process that reads blocks of samples for another one. This file imports no framework."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from nas_compress.data.store.block import Shape, read_block, write_block
from nas_compress.data.store.source import Source
from nas_compress.errors import RequestError, RunError, describe


class ReaderProcess:
    """A process of the same Python; it opens a source and writes blocks into the file of samples.

    A process of its own, and not a fork or a copy of the main module, because users call from scripts without guards
    and with threads.
    """

    def __init__(self, source: Source, shape: Shape, path: Path) -> None:
        self._first: tuple[Source, Shape, Path] | None = (source, shape, path)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each or str(Path.cwd()) for each in sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def read(self, block: int) -> tuple[str, NDArray[Any]]:
        """Let the process read and write a block; return its digest and its targets.

        RequestError of a sample, RunError if the process has ended.
        """
        try:
            stdin, stdout = _pipes(self._process)
            if self._first is not None:
                pickle.dump(self._first, stdin)
                self._first = None
            pickle.dump(block, stdin)
            stdin.flush()
            answer = pickle.load(stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            code = self._process.wait()
            cause = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise RunError(
                f"A process that read the data ended by {cause}. Run the same command to continue."
            ) from error
        if isinstance(answer, Exception):
            raise answer
        digest, targets = answer
        return digest, targets

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def main() -> None:
    """Read blocks by number from stdin and answer on stdout until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # code of the user may print
    commands = sys.stdin.buffer
    try:
        source, shape, path = pickle.load(commands)
        reader = None
        while True:
            block = pickle.load(commands)
            try:
                reader = source.open() if reader is None else reader
                samples, targets = read_block(reader, shape, block)
                write_block(path, shape, block, samples)
                answer: object = (hashlib.sha256(samples.tobytes()).hexdigest(), targets)
            except RequestError as error:
                answer = error
            except Exception as error:
                answer = RunError(f"A process that reads the data failed: {describe(error)}")
            pickle.dump(answer, answers)
            answers.flush()
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise EOFError
    return process.stdin, process.stdout


if __name__ == "__main__":
    main()
