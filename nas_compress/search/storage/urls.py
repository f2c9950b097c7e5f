"""Addresses of databases: parsed, and shown without their passwords."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from sqlalchemy.engine import URL, make_url

from nas_compress.errors import RequestError

HIDDEN = "***"
"""Replacement of a password."""

_SECRET = re.compile(r"pass(?!file$)|pwd|secret|token|credential|key$", re.IGNORECASE)
"""Names of secrets in the query of a URL. `passfile` is the name of a file."""

_SETTING = re.compile(r"(?P<before>[?&])(?P<name>[^=&]*)=(?P<value>[^&]*)")
"""One setting in the query of a URL."""

_USER = re.compile(r"(?P<user>//[^:/?]*):(?P<password>.*)@", re.DOTALL)
"""User and password of a URL. The password may contain "/" and "@"."""


def shown_url(url: str | None) -> str | None:
    """Return a storage's URL without its password. It may hide more of the URL, but never less."""
    if url is None:
        return None
    return _SETTING.sub(_hidden_setting, _USER.sub(rf"\g<user>:{HIDDEN}@", url))


def without_secrets(text: str, url: str | None = None) -> str:
    """Return a message without the passwords of `url`, in all spellings, and of URLs inside the message."""
    for secret in sorted(_secrets(url or ""), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return re.sub(r"\w+://\S+", lambda found: shown_url(found[0]) or "", text)


def database_address(url: str) -> URL:
    """Return the address of a database, with psycopg as the driver of PostgreSQL. RequestError if it is no URL."""
    try:
        return make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url))
    except Exception as error:  # its text may contain a part of the password
        raise RequestError(
            "--storage must be a URL such as postgresql://me@host/database, with %2F and %40 for / and @ in passwords, "
            f"but got {shown_url(url)} ({type(error).__name__})"
        ) from None


def _hidden_setting(found: re.Match[str]) -> str:
    value = HIDDEN if _SECRET.search(unquote_plus(found["name"])) else found["value"]
    return f"{found['before']}{found['name']}={value}"


def _secrets(url: str) -> set[str]:
    """Return the passwords of a URL as written and decoded, and the parts into which a parser may cut them."""
    found = [setting["value"] for setting in _SETTING.finditer(url) if _SECRET.search(unquote_plus(setting["name"]))]
    user = _USER.search(url)
    if user is not None:
        parts = re.split("[/@:?]", user["password"])
        found += [user["password"], *(part for part in parts if len(part) > 2)]
    return {spelling for text in found for spelling in (text, unquote_plus(text)) if spelling not in ("", HIDDEN)}
