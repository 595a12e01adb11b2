"""Names of objects and URLs of storages, decided without touching a disk or a network.

Object names are this package's own (letters, digits, `-`, `_`, `.` and `/`), so whatever else a
provider lists is somebody else's and is passed over. What a URL or an option holds of secrets
never reaches a message: `Place.shown` and `Place.scrub` see to that (I11).
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from quorumvault.backup.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "Place",
    "check_name",
    "check_prefix",
    "check_url",
    "is_name",
    "lasting",
    "parse_options",
    "place",
]

_NAME: Final = re.compile(
    r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){0,7}"
)
_PREFIX: Final = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/?)*")
_PROTOCOL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SECRET: Final = re.compile(
    r"secret|passw|passphrase|passwd|pwd|token|key|auth|credential|signature|^sig$|^sas"
    r"|connection_?string",
    re.IGNORECASE,
)
_IPV6: Final = re.compile(r"\[[0-9A-Fa-f:.]+\]")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_DAV: Final = {"webdav": "http", "dav": "http", "webdavs": "https", "davs": "https"}


def is_name(name: str) -> bool:
    """Whether this could be the name of an object of ours."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """The name, if it is one; anything else is a mistake of the caller.

    Raises:
        ValueError: not a name.

    """
    if not is_name(name):
        raise ValueError("not a name of a stored object")
    return name


def check_prefix(prefix: str) -> tuple[str, str]:
    """Split into the folder to list ("" is the root) and how names in it begin.

    Raises:
        ValueError: no name can begin so.

    """
    if _PREFIX.fullmatch(prefix) is None:
        raise ValueError("not a beginning of names of stored objects")
    folder, _, start = prefix.rpartition("/")
    return folder, start


@dataclass(frozen=True, slots=True)
class Place:
    """Where a storage is.

    Attributes:
        protocol: "folder", "webdav", or what fsspec calls it ("s3", "gdrive", "sftp" …).
        address: the folder's path, the server's URL for WebDAV, else the URL as it was given.
        path: the path on the WebDAV server, decoded; "" elsewhere.
        shown: the URL without anything secret, for messages.
        options: for the provider's package.
        secrets: what must not be shown.

    """

    protocol: str
    address: str = field(repr=False)
    path: str
    shown: str
    options: dict[str, object] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def scrub(self, text: str) -> str:
        """Some text of the provider's on one line, without secrets, at most 200 characters."""
        for secret in self.secrets:
            text = text.replace(secret, "…")
        text = re.sub(r"(://)[^/@\s]*@", r"\1…@", text)
        text = "".join(letter if letter.isprintable() else " " for letter in text)
        text = " ".join(text.split())
        return text if len(text) <= 200 else text[:199] + "…"


def place(url: str, options: Mapping[str, object] | None = None) -> Place:
    """Read a storage URL; plain and relative paths are folders.

    Raises:
        StorageError: not a URL that can be a storage; the message says what to write instead.

    """
    given = dict(options or {})
    if not url.strip() or "\0" in url:
        raise StorageError("no storage was given: name a folder or a URL such as s3://bucket/phone")
    if "::" in _IPV6.sub("", url) and _PROTOCOL.search(url):
        raise StorageError(
            "a storage URL can't be a chain (`::`): a cache in between would hide what is stored"
        )
    found = _PROTOCOL.match(url)
    protocol = found[1].lower() if found else "file"
    if protocol in {"file", "local"}:
        return _folder(url, found is not None, given)
    check_url(url)
    url = f"{protocol}://{url.partition('://')[2]}"
    shown = _shown(url)
    secrets = _secrets(url, given)
    if protocol in _DAV:
        return _webdav(url, _DAV[protocol], shown, given, secrets)
    if protocol in {"http", "https"}:
        raise StorageError(
            f"{shown} can't be written to: for a WebDAV server write"
            f" {'webdavs' if protocol == 'https' else 'webdav'}://…, for an S3-compatible one"
            " s3://bucket/prefix with the option endpoint_url"
        )
    if not url.partition("://")[2].strip("/"):
        raise StorageError(f"{shown} names no bucket, host or folder")
    if protocol in {"s3", "s3a"} and "@" in url.partition("://")[2].partition("/")[0]:
        raise StorageError(
            f"{shown}: S3 takes no password in its URL; give the options key and secret, or"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
        )
    return Place(protocol, url, "", shown, given, secrets)


def check_url(url: str) -> None:
    """Refuse a URL whose user or password cuts it in two, so that nobody can tell what is secret.

    Raises:
        StorageError: nothing of it is quoted.

    """
    if _PROTOCOL.match(url) is None:
        return
    authority = url.partition("://")[2].partition("/")[0]
    _, colon, port = _IPV6.sub("", authority).rpartition(":")
    odd = bool(colon) and "@" not in authority and not _PORT.fullmatch(port)
    try:
        urlsplit(url)
    except ValueError:  # which quotes it
        odd = True
    if (odd and not authority.startswith("arn:")) or set("?#") & set(authority.rpartition("@")[0]):
        raise StorageError(
            f"{url.partition('://')[0]}://… is not a URL: a host and a port are not to be told from"
            " what stands there. In a user's name or password write %2F for /, %3F for ?, %23 for #"
        )


def lasting(url: str) -> str:
    """The URL to remember: of a folder its full path, which no other working folder changes."""
    if "://" in url or "::" in url or not url.strip():
        return url
    return os.path.abspath(os.path.expanduser(url))  # noqa: PTH100, PTH111 - links are kept


def parse_options(pairs: Iterable[str]) -> dict[str, object]:
    """Options from a command line: `KEY=TEXT`, or `KEY:=JSON` for numbers, truths and objects.

    Raises:
        StorageError: neither of the two; the value is not quoted, it may be a secret.

    """
    options: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        as_json = key.endswith(":")
        key = key.removesuffix(":")
        if not equals or not key.isidentifier():
            raise StorageError("a storage option is KEY=TEXT or KEY:=JSON")
        if as_json:
            try:
                options[key] = json.loads(value)
            except ValueError as error:
                raise StorageError(
                    f"the value of the storage option {key} is not JSON; for a text write {key}=…"
                ) from error
        else:
            options[key] = value
    return options


def _folder(url: str, has_protocol: bool, options: dict[str, object]) -> Place:  # noqa: FBT001
    path = url.partition("://")[2] if has_protocol else url
    if has_protocol:
        if not path.startswith("/"):
            raise StorageError(
                f"{url} names a host or a relative path: write file:///full/path, or the path alone"
            )
        path = unquote(path)
    if options:
        raise StorageError(f"a folder takes no options, but got {', '.join(sorted(options))}")
    if not has_protocol:
        path = os.path.expanduser(path)  # noqa: PTH111 - a text until it is known to be one
    path = os.path.abspath(path)  # noqa: PTH100 - without following the last symlink
    return Place("folder", path, "", path, {}, ())


def _webdav(
    url: str, scheme: str, shown: str, options: dict[str, object], secrets: tuple[str, ...]
) -> Place:
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise StorageError(f"{shown} is not a URL: {error}") from error
    if not host:
        raise StorageError(f"{shown} names no host: write webdavs://host/folder")
    path = unquote(parts.path).strip("/")
    if parts.query or parts.fragment or set("#?%") & set(path):
        raise StorageError(f"{shown}: a WebDAV folder can't have #, ? or % in its name")
    if parts.username is not None and "auth" not in options:
        options["auth"] = (unquote(parts.username), unquote(parts.password or ""))
    user, password = options.pop("username", None), options.pop("password", None)
    if user is not None:
        options["auth"] = (str(user), str(password or ""))
    elif isinstance(options.get("auth"), list):
        options["auth"] = tuple(map(str, options["auth"]))  # type: ignore[call-overload]
    if scheme == "http" and "auth" in options and not options.pop("plain_http", _is_here(host)):
        raise StorageError(
            f"{shown} would send the password unencrypted: write webdavs://, or give the option"
            " plain_http:=true if nobody else is on that network"
        )
    bracketed = f"[{host}]" if ":" in host else host
    server = f"{scheme}://{bracketed}" + (f":{port}" if port is not None else "")
    return Place("webdav", server, path, shown, options, secrets)


def _is_here(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _shown(url: str) -> str:
    protocol, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = "…@" + authority.rpartition("@")[2]
    path, question, _ = path.partition("?")
    return f"{protocol}://{authority}{slash}{path}{question}{'…' if question else ''}"


def _secrets(url: str, options: Mapping[str, object]) -> tuple[str, ...]:
    """Every text that the owner gave as a secret, the longest first, at least 4 characters."""
    found: set[str] = set()
    authority = url.partition("://")[2].partition("/")[0]
    if "@" in authority:
        user, _, password = authority.rpartition("@")[0].partition(":")
        found |= {user, unquote(user), password, unquote(password)}
    found |= {value for _, value in parse_qsl(url.partition("?")[2])}

    def gather(value: object, *, secret: bool) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                gather(inner, secret=secret or _SECRET.search(str(key)) is not None)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                gather(inner, secret=secret)
        elif secret and isinstance(value, (str, bytes)):
            found.add(value if isinstance(value, str) else value.decode(errors="replace"))

    gather(dict(options), secret=False)
    return tuple(sorted((text for text in found if len(text) >= 4), key=len, reverse=True))
