"""The agent as a file for another machine."""

from __future__ import annotations

from pathlib import Path

from nas_compress.devices.remote import agent
from nas_compress.errors import RequestError
from nas_compress.files import write_bytes

_FIRST_BYTES = 200


def write_agent(path: Path) -> None:
    """Write the agent, in place of an older one; RequestError if another file is there."""
    content = Path(agent.__file__).read_bytes()
    if path.is_dir() or (path.exists() and not _is_agent(path)):
        raise RequestError(f"--write must be a new file or an agent to replace, but got {path}")
    write_bytes(path, content)


def restricted_key(path: Path) -> str:
    """Return the start of a line of `authorized_keys` with which a key can do nothing but start the agent.

    >>> restricted_key(Path("there/agent.py"))
    'restrict,command="python3 agent.py"'
    """
    return f'restrict,command="python3 {path.name}"'


def _is_agent(path: Path) -> bool:
    assert agent.__doc__ is not None
    with path.open("rb") as file:
        return agent.__doc__.splitlines()[0].encode() in file.read(_FIRST_BYTES)
