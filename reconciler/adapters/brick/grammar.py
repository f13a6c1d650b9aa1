"""The words in which connections are checked: what a value must be, and how it is refused."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from reconciler.runtime.ports import Unsupported

HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})"
_SHOWN_MAX = 80
_PATHS_MAX = 128
"""To one volume; each is asked, logged in to and waited for."""
PORTS_MAX = 1024
"""Of a Fibre Channel storage: those are only looked for."""


def split_portal(text: str) -> tuple[str, str]:
    """Address and port of `10.0.0.1:3260`, `[fd00::1]:3260`, `san-1:3260`; also with what some drivers append, `,1`."""
    address, _, port = re.sub(r",\d{1,5}$", "", text).rpartition(":")
    return address, port


def is_portal(text: str) -> bool:
    address, port = split_portal(text)
    return is_address(address) and is_port(port)


def is_address(text: object) -> bool:
    """An IP address, in brackets or not, or a host name."""
    if not isinstance(text, str):
        return False
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]") if text.startswith("[") else text)
    except ValueError:
        return re.fullmatch(HOST, text) is not None and ":" not in text
    return True


def is_port(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    return re.fullmatch(r"\d{1,5}", str(value), re.ASCII) is not None and 0 < int(value) < 1 << 16


def check_address(field: str, address: object, port: object) -> None:
    if not is_address(address):
        refuse(field, address, "must be an address")
    check_port(field, port)


def check_port(field: str, port: object) -> None:
    if not is_port(port):
        refuse(field, port, "must be a port")


def check_lun(field: str, lun: object) -> None:
    good = isinstance(lun, int | str) and not isinstance(lun, bool) and re.fullmatch(r"\d{1,20}", str(lun), re.ASCII)
    if not good or int(str(lun)) >= 1 << 64:
        refuse(field, lun, "must be the number of a logical unit")


def each(data: Mapping[str, Any], field: str, most: int = _PATHS_MAX) -> Sequence[object]:
    """The values of a field and of its plural."""
    one, several = data.get(field), data.get(f"{field}s")
    if several is not None:
        check_list(f"{field}s", several, most)
    return [*(() if one is None else (one,)), *(several or ())]


def check_list(field: str, value: object, most: int = _PATHS_MAX) -> None:
    if not isinstance(value, list | tuple) or len(value) > most:
        refuse(field, value, f"must be a list, of {most} at most")


def several(data: Mapping[str, Any], field: str, grammar: re.Pattern[str], rule: str) -> None:
    for value in each(data, field):
        if not (isinstance(value, str) and grammar.fullmatch(value)):
            refuse(field, value, rule)


def text(data: Mapping[str, Any], field: str, grammar: re.Pattern[str], rule: str, *, secret: bool = False) -> None:
    value = data.get(field)
    if not (isinstance(value, str) and grammar.fullmatch(value)):
        refuse(field, "(not shown)" if secret and value is not None else value, rule)


def optional(data: Mapping[str, Any], field: str, grammar: re.Pattern[str], rule: str, *, secret: bool = False) -> None:
    if data.get(field) not in (None, ""):
        text(data, field, grammar, rule, secret=secret)


def refuse(field: str, value: object, rule: str) -> NoReturn:
    raise Unsupported(f"the connection's {field} {short(value)} {rule}; nothing was done")


def short(value: object) -> str:
    text = repr(value) if isinstance(value, str) else f"({type(value).__name__})" if value is not None else "(none)"
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"
