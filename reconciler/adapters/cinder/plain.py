"""What a driver returns, as Cinder's own services would see it after their RPC: plain JSON.

Drivers hand out UUIDs, sets, addresses, dates and bytes without noticing: Cinder's serializer (oslo.serialization) makes texts
and lists of them. Beyond it: sets come in a stable order, or each call would look like a change; and what JSON or etcd can't hold
(NaN, half a surrogate pair) is left out of a text or of the value, not out of the whole answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from oslo_serialization import jsonutils

from reconciler.runtime.ports import Terminal

DEPTH_MAX = 50
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""Of a function or generator, which Cinder sends by its name: another one each time."""


def plain(value: Any, where: str = "the answer", depth: int = 0) -> Any:
    """Raises Terminal for what even Cinder could not send, naming where it is and its type, never the value: it may be a secret."""
    if depth > DEPTH_MAX:
        raise Terminal(f"the driver's data is nested too deeply at {where[:200]}")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_key(name): plain(each, f"{where}.{name}", depth + 1) for name, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(each, where, depth + 1) for each in value), key=repr)
    if isinstance(value, list | tuple):
        return [plain(each, f"{where}[{index}]", depth + 1) for index, each in enumerate(value)]
    try:
        made = plain(jsonutils.to_primitive(value), where, depth + 1)
    except (TypeError, ValueError) as error:  # UnicodeDecodeError is one, too
        raise Terminal(f"the driver's data holds a {type(value).__name__} at {where}, which can't be stored") from error
    return _ADDRESS.sub("", made) if isinstance(made, str) else made


def _key(name: Any) -> str:
    made = plain(name, "a name")
    return made if isinstance(made, str) else jsonutils.dumps(made)
