"""Secrets in texts: found by their value where it is known, and by what stands before them where it is not.

Pure, and linear in the length of the text: what is masked was written by drivers and arrays, and may be long and odd. Three users:

* `KnownSecrets`, one for each worker process, at both ends of its pipe. It learns the secrets of everything that goes through the
  pipe, and takes them out of everything that comes from the worker as text: errors, logs, what is printed.
* `redact_text`, for texts of any origin: it goes by the names under which Cinder's drivers, os-brick and etcd keep secrets.
* `daemons.redaction`, for values with names: settings, and fields of log lines.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "***"
LINE_MAX = 4096
"""Characters of a line that are kept."""

_SECRET_WORDS = (
    r"password|passwd|passphrase|secret|token|keyring|credential|private[_-]?key|api[_-]?key|access[_-]?key|chap[_-]?key|"
    r"provider_auth|conn_info|connection_info|auth[_-]?key|authorization|cookie|passcode|"
    r"customer_key|fixed_key|swift_key"
)
_WHOLE_WORDS = r"pass|pwd|psk|jwt"
_SECRET_NAME = re.compile(rf"{_SECRET_WORDS}|^auth$|_auth$|(?:^|[_-])(?:{_WHOLE_WORDS})$", re.IGNORECASE)
_HARMLESS_NAME = re.compile(r"[_-](file|path|folder|s|method|type)$", re.IGNORECASE)
"""`password_file` is where a secret lies, not the secret."""
_CONTAINERS = frozenset({"conn_info", "connection_info"})
"""Hidden as a whole wherever they are shown; of what is in them, only what has a secret's name is one."""
_LISTS_OF_WORDS = ("provider_auth", "credential")
"""Their values are several words, as `CHAP <user> <password>`."""


def is_secret(name: object) -> bool:
    """Whether a value of this name is to be hidden."""
    text = name if isinstance(name, str) else str(name)
    return bool(_SECRET_NAME.search(text)) and not _HARMLESS_NAME.search(text)


# --- by what stands before them --------------------------------------------------------------------------------------------

_WORD = re.compile(
    rf"{_SECRET_WORDS}|(?<![^\W_])(?:{_WHOLE_WORDS})(?![^\W_])|(?<![\w-])auth(?=\\*['\"])|_auth(?![\w-])", re.IGNORECASE
)
_REST = re.compile(r"[\w-]*+")
_LONGEST_NAME = 200
_Q = r"\\{0,16}['\"]"
_ASSIGNED = re.compile(rf"(?:{_Q})?\s{{0,32}}(?::=|=>|==?|:)\s{{0,32}}")
_BY_OPTION = re.compile(rf"(?:{_Q},?)?\s{{1,32}}(?:{_Q})?(?:-v|--value)(?:{_Q},?)?[\s=]{{1,32}}")  # iscsiadm's
_NEXT_WORD = re.compile(rf"(?:{_Q},?)?\s{{1,32}}(?![-|>])")
_NEXT_OF_PAIR = re.compile(rf"{_Q}\s{{0,4}},\s{{0,32}}")
_VALUE = re.compile(
    r"\\{1,16}(?P<quote>['\"]).*?(?:\\{1,16}(?P=quote)|\Z)|[bu]?'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|[bu]?\"(?:[^\"\\]|\\.)*+(?:\"|\\?\Z)|"
    r"(?:CHAP\s{1,8}\S++\s{1,8}|(?:Basic|Bearer|Digest|Negotiate|Token)\s{1,8})?[^\s,;)}\]]++",
    re.DOTALL | re.IGNORECASE,
)
_ELEMENT = re.compile(r"[^<]++")
_CLOSING = {"{": "}", "(": ")", "[": "]"}
_EITHER = {opening: re.compile(rf"[{re.escape(opening + closing)}]") for opening, closing in _CLOSING.items()}
_MARKED = (
    (re.compile(r"(://[^\s/:@'\"<>]{0,200}:)[^\s/'\"<>]{1,500}(?=@)"), rf"\1{HIDDEN}"),  # a URL's
    (re.compile(r"(://)[^\s/:@'\"<>]{20,500}(?=@)"), rf"\1{HIDDEN}"),
    (re.compile(r"(\bBearer\s{1,8})(?!token\b|auth)[\w.~+/=-]{1,4000}+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(\bBasic\s{1,8})(?=[A-Za-z+/]{0,200}[0-9=])[A-Za-z0-9+/]{6,4000}+={0,2}"), rf"\1{HIDDEN}"),
    (re.compile(r"\bAQ[A-Za-z0-9+/]{34,60}==?"), HIDDEN),  # a key of Ceph's
    (re.compile(r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----).*?(?=-----END|\Z)", re.DOTALL), rf"\1{HIDDEN}"),
)
_MAY_BE_MARKED = re.compile(r"://|Bearer|Basic|AQ|-----BEGIN", re.IGNORECASE)
_LONG_LINE = re.compile(rf"^([^\n]{{{LINE_MAX}}})[^\n]++", re.MULTILINE)


def redact_text(text: str) -> str:
    """The text with what follows a secret's name hidden: `password=x`, `'auth_password': 'x'`, `--token x`, `https://me:x@…`."""
    if len(text) > LINE_MAX:
        text = _LONG_LINE.sub(r"\1…", text)
    parts, last = [], 0
    for start, end in _named(text):
        parts += [text[last:start], HIDDEN]
        last = end
    text = "".join([*parts, text[last:]]) if parts else text
    if _MAY_BE_MARKED.search(text):
        for pattern, put in _MARKED:
            text = pattern.sub(put, text)
    return text


def _named(text: str) -> Iterator[tuple[int, int]]:
    """Where the values of secret names are, one after another."""
    at = 0
    while found := _WORD.search(text, at):
        rest = _REST.match(text, found.end())
        at = rest.end() if rest else found.end()
        start = found.start()
        while start > max(0, found.start() - _LONGEST_NAME) and (text[start - 1].isalnum() or text[start - 1] in "_-"):
            start -= 1
        if _HARMLESS_NAME.search(text[start:at][-_LONGEST_NAME:]):
            continue
        if text[start - 1 : start] == "<" and text[at : at + 1] == ">":
            value = _ELEMENT.match(text, at + 1)
            span = value.span() if value else None
        else:
            span = _value_after(text, start, at)
        if span:
            yield span
            at = max(at, span[1])


def _value_after(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Where the value of the name is that stands from `start` to `end`."""
    between = _ASSIGNED.match(text, end) or _BY_OPTION.match(text, end)
    if between is None and text[start] == "-":  # on a command line
        between = _NEXT_WORD.match(text, end)
    if between is None and text[max(0, start - 2) : start].rstrip("'\"\\").endswith("("):
        between = _NEXT_OF_PAIR.match(text, end)
    if between is None:
        return None
    if (opening := text[between.end() : between.end() + 1]) in _CLOSING and opening:
        return between.end(), _closing(text, between.end())
    value = _VALUE.match(text, between.end())
    return value.span() if value else None


def _closing(text: str, start: int) -> int:
    """The end of what a bracket opens; of the text when it is cut off."""
    opening, depth = text[start], 0
    for found in _EITHER[opening].finditer(text, start):
        depth += 1 if found[0] == opening else -1
        if depth == 0:
            return found.end()
    return len(text)


# --- by their value --------------------------------------------------------------------------------------------------------

_SHORTEST = 4
"""Shorter texts are left alone: replacing "on" everywhere makes a message unreadable and hides nothing."""
_EMBEDDED_URL = re.compile(r"://[^\s/:@'\"<>]{0,200}:([^\s/'\"<>]{1,500})@")
_NO_SECRETS = frozenset({"CHAP", "None", "none", "null", "true", "True", "false", "False", HIDDEN})


class KnownSecrets:
    """Secrets that were seen, and are taken out of every text from then on: a late log line may hold them long after the call.

    Args:
        most: how many are kept; beyond it the oldest half is forgotten.
    """

    def __init__(self, most: int = 400_000) -> None:
        self._most = most
        self._told: Callable[[str], object] | None = None
        self._secrets: dict[str, None] = {}
        self._lengths: dict[str, set[int]] = {}
        """First characters of a secret -> how long those are that begin so."""

    def on_new(self, told: Callable[[str], object]) -> None:
        """From now on, tell each new one to this."""
        self._told = told

    def learn(self, value: Any, *, quietly: bool = False) -> None:
        """Remember what in this value, at any depth, has a secret's name. `quietly`: without telling it on."""
        for secret in _secrets_in(value, "", hidden=False):
            self.add(secret, quietly=quietly)

    def add(self, secret: str, *, quietly: bool = False) -> None:
        """Remember one, as it is and as it is written in JSON, URLs, shells."""
        if len(secret) < _SHORTEST or secret in self._secrets or secret in _NO_SECRETS:
            return
        if len(self._secrets) > self._most:
            for old in list(self._secrets)[: self._most // 2]:
                self._secrets.pop(old, None)
        for form in (secret, *_forms(secret)):
            self._lengths.setdefault(form[:_SHORTEST], set()).add(len(form))
            self._secrets[form] = None
        if self._told is not None and not quietly:
            self._told(secret)

    def mask(self, text: str) -> str:
        """The text without them, and without what looks like one."""
        return redact_text(self._without_known(text))

    def _without_known(self, text: str) -> str:
        if not self._secrets:
            return text
        parts, last, at = [], 0, 0
        while at <= len(text) - _SHORTEST:
            if (lengths := self._lengths.get(text[at : at + _SHORTEST])) and (end := self._end(text, at, lengths)):
                parts += [text[last:at], HIDDEN]
                last = at = end
            else:
                at += 1
        return "".join([*parts, text[last:]]) if parts else text

    def _end(self, text: str, at: int, lengths: set[int]) -> int:
        """Where the longest known secret ends that begins here; 0: none does."""
        return next((at + size for size in sorted(lengths, reverse=True) if text[at : at + size] in self._secrets), 0)


def _secrets_in(value: Any, name: str, *, hidden: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        is_row = "key" in value and "value" in value  # of metadata: what stands under `key` is a name
        named_by_key = is_row and is_secret(value["key"])
        for key, item in value.items():
            if is_row and key == "key":
                continue
            inner = str(key)
            secret = (is_secret(inner) and inner not in _CONTAINERS) or _KEY.search(inner) is not None
            yield from _secrets_in(item, inner, hidden=hidden or secret or (named_by_key and key == "value"))
    elif isinstance(value, list | tuple | set | frozenset):
        rows = name == "initiator_data"  # of initiator, namespace, key, value
        for item in value:
            is_row = rows and isinstance(item, list | tuple) and len(item) == 4
            yield from _secrets_in(item[3] if is_row else item, name, hidden=hidden or is_row)
    elif isinstance(value, bytes | bytearray):
        yield from _secrets_in(value.decode(errors="replace"), name, hidden=hidden)
    elif isinstance(value, str):
        yield from _secrets_in_text(value)
        if hidden:
            yield from _parts(value, name)
    elif hidden and value is not None and not isinstance(value, bool):
        yield str(value)


_KEY = re.compile(r"(^|_)key$|^passw", re.IGNORECASE)


def _parts(secret: str, name: str) -> Iterator[str]:
    """What of a secret may be told by itself."""
    yield secret
    yield secret.strip()
    if "\n" in secret:
        for line in secret.splitlines():  # a keyring file: "key = AQ…=="
            yield from (line.strip(), line.partition("=")[2].strip())
    if any(word in name for word in _LISTS_OF_WORDS):
        yield from secret.split()


def _secrets_in_text(text: str) -> Iterator[str]:
    """`-o username=me,password=x`, `mysql://me:x@db`."""
    if len(text) < _SHORTEST:
        return
    for start, end in _named(text):
        yield text[start:end].strip("\\'\"")
    if "://" in text:
        yield from _EMBEDDED_URL.findall(text)


def _forms(secret: str) -> Iterator[str]:
    """How else a secret is written: escaped, quoted, encoded."""
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    yield json.dumps(json.dumps(secret)[1:-1])[1:-1]
    yield quote(secret.encode(errors="replace"), safe="")
    yield quote_plus(secret.encode(errors="replace"))
    yield html.escape(secret)
    yield shlex.quote(secret).strip("'")
    for before in range(3):  # `me:secret` in base64 holds it at another offset
        data = b"\0" * before + secret.encode(errors="replace")
        yield base64.b64encode(data).decode()[(0, 2, 3)[before] : len(data) * 8 // 6]
