"""The process that os-brick runs in: ``python -m reconciler.adapters.brick.worker <settings as JSON>``.

Started, called and killed by `BrickConnector`. Everything foreign happens here: os-brick's and oslo's state, their threads, the
programs that they run. os-brick is loaded at the first call that needs it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reconciler.adapters import child
from reconciler.adapters.child import levels
from reconciler.runtime.ports import Target
from schema.secrets import KnownSecrets

if TYPE_CHECKING:
    from reconciler.adapters.brick.host import Host
    from reconciler.adapters.brick.tools import Redactor

Params = Mapping[str, Any]
Handler = Callable[[Params], Any]


def handlers(host: Host, redactor: Redactor) -> dict[str, Handler]:
    """The calls of the port, on JSON. Whatever they raise is a port error without secrets."""
    table: dict[str, Handler] = {
        "properties": lambda _: dict(host.properties()),
        "connect": lambda params: asdict(host.connect(_target(params))),
        "inspect": lambda params: _optional(host.inspect(_target(params), params["details"])),
        "add_paths": lambda params: asdict(host.add_paths(_target(params), params["details"])),
        "extend": lambda params: asdict(host.extend(_target(params), params["details"])),
        "disconnect": lambda params: host.disconnect(_target(params), params["details"], flush=params["flush"]),
    }
    return {name: _guarded(handler, redactor) for name, handler in table.items()}


def _guarded(handler: Handler, redactor: Redactor) -> Handler:
    def call(params: Params) -> Any:
        redactor.learn(params.get("target", {}).get("conn_info", {}))
        try:
            return handler(params)
        except Exception as error:
            raise redactor.translate(error) from None

    return call


def _target(params: Params) -> Target:
    return Target(**params["target"])


def _optional(device: Any) -> Any:
    return None if device is None else asdict(device)


class _CleanFormatter(logging.Formatter):
    """Takes secrets out of whole log lines, tracebacks included: os-brick logs failed commands with all their arguments.

    Each line has its level before it, for the daemon.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return levels.mark(self._redactor.clean(super().format(record).rstrip()), record.levelno)


def main() -> None:
    table: dict[str, Handler] = {}
    known = KnownSecrets()

    def begin() -> None:
        """After the fork: what is imported before it, the keeper would keep too."""
        from reconciler.adapters.brick.host import Host
        from reconciler.adapters.brick.settings import ConnectorSettings
        from reconciler.adapters.brick.tools import Redactor

        redactor = Redactor(known)
        stderr = logging.StreamHandler()
        stderr.setFormatter(_CleanFormatter(redactor))
        logging.basicConfig(level=logging.WARNING, handlers=[stderr])
        table.update(handlers(Host(ConnectorSettings.model_validate_json(sys.argv[1])), redactor))

    child.serve(table, concurrency=json.loads(sys.argv[1])["concurrency"], on_start=begin, secrets=known)


if __name__ == "__main__":
    main()
