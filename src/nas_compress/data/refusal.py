"""One way to say which request is wrong and where it stands."""

from __future__ import annotations

from nas_compress.errors import RequestError


def refusal(message: str, where: str) -> RequestError:
    """A RequestError of one line; `where` names the file and key, such as `study.toml: data.factory`."""
    line = " ".join(message.split())
    return RequestError(f"{line} ({where})" if where else line)
