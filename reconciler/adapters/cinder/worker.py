"""The worker process of one backend: ``python -m reconciler.adapters.cinder.worker``.

Started by `backend.CinderBackend`, it imports Cinder, gets the backend's settings with the first request (``open``), sets the
driver up, and then serves one request per driver operation. Whatever a driver raises leaves here as an error of the ports: one
line, without secrets.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.adapters.child import levels, serve
from reconciler.adapters.cinder import library
from reconciler.runtime.ports import NotOpen, OtherStorage, PortError, Retryable, Terminal, Unavailable, Unsupported
from schema.secrets import KnownSecrets

if TYPE_CHECKING:  # importing it imports Cinder, and `serve` wants to fork first
    from reconciler.adapters.cinder.operations import Operations

Params = Mapping[str, Any]
_log = logging.getLogger("reconciler.cinder")
_TEXT_MAX = 800
_OURS = Path(__file__).parents[2]
_MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError)
"""Not an array's refusal, but a fault in a program: worth its traceback in the log."""


class Worker:
    """The handlers. All but `open` and `check` need an `open` that succeeded."""

    def __init__(self, secrets: KnownSecrets) -> None:
        self._operations: Operations | None = None
        self._secrets = secrets
        self._errors = _LastError()

    def handlers(self) -> dict[str, Callable[[Params], Any]]:
        calls: dict[str, Callable[[Operations, Params], Any]] = {
            "describe": lambda do, _: do.describe(),
            "create": lambda do, params: do.create(params["volume"]),
            "extend": lambda do, params: do.extend(params["volume"], params["size_gib"]),
            "delete": lambda do, params: do.delete(params["volume"], params["others"], gone=params["gone"]),
            "adopt": lambda do, params: do.adopt(params["volume"], params["reference"]),
            "export": lambda do, params: do.export(params["volume"], params["export"]),
            "connect": lambda do, params: do.connect(params["volume"], params["export"]),
            "terminate": lambda do, params: do.terminate(params["volume"], params["export"]),
            "unexport": lambda do, params: do.unexport(params["volume"]),
            "exports": lambda do, _: do.exports(),
        }
        return {"open": self.open, "check": self.check} | {name: self._operation(call) for name, call in calls.items()}

    def open(self, params: Params) -> Any:
        from reconciler.adapters.cinder import opening
        from reconciler.adapters.cinder.operations import Operations

        logging.getLogger().addHandler(self._errors)
        settings, volumes, stages = params["settings"], params["volumes"], ["construction"]
        try:
            driver, shadow = opening.construct(
                settings, Path(params["state_folder"]), empty=not volumes, secrets=self._secrets
            )
            operations = Operations(
                settings["name"], driver, shadow, settings["concurrency"], cuts_access=settings["cuts_access"]
            )
            result = operations.set_up(volumes, stages.append, params["storage"])
        except BaseException as error:
            raise self._translate(error, stage=stages[-1]) from None
        logging.getLogger().removeHandler(self._errors)
        self._operations = operations
        return result

    def check(self, params: Params) -> list[str]:
        """What hinders the backend here; with `set_up` its driver is set up, too, as if there were no volumes to bring back."""
        from reconciler.adapters.cinder import checking, opening
        from reconciler.adapters.cinder.operations import Operations

        logging.getLogger().addHandler(self._errors)
        settings, stages = params["settings"], ["construction"]
        try:
            # Not as for an empty backend: an NFS driver would choose, and keep, file modes for it.
            driver, shadow = opening.construct(
                settings, Path(params["state_folder"]), empty=False, secrets=self._secrets
            )
            lacking = [self._secrets.mask(line) for line in checking.hindrances(driver)]
            if params["set_up"] and not lacking:
                Operations(settings["name"], driver, shadow, settings["concurrency"]).set_up([], stages.append)
        except BaseException as error:
            raise self._translate(error, stage=stages[-1]) from None
        return lacking

    def _operation(self, call: Callable[[Operations, Params], Any]) -> Callable[[Params], Any]:
        def handle(params: Params) -> Any:
            if self._operations is None:
                raise NotOpen("the backend is not open yet")
            try:
                return call(self._operations, params)
            except BaseException as error:  # also SystemExit: a driver that exits has not answered
                raise self._translate(error) from None

        return handle

    def _translate(self, error: BaseException, stage: str | None = None) -> PortError:
        """The port's error for a driver's; `stage`: of the set-up."""
        text = " ".join(self._secrets.mask(str(error)).split())[:_TEXT_MAX].rstrip(".")
        if isinstance(error, OtherStorage):
            return OtherStorage(text, error.found)
        if isinstance(error, PortError):
            return type(error)(text)
        level = logging.WARNING if isinstance(error, _MISTAKES) else logging.DEBUG
        _log.log(level, "%s", "".join(traceback.format_exception(error)))
        text = f"{type(error).__name__}: {text}"
        if stage:
            text = f"the driver's {stage} failed: {text}{self._hint(error, text)}"
        return _kind_of(error, opening=stage is not None)(text)

    def _hint(self, error: BaseException, text: str) -> str:
        """What else is known about a set-up that failed: many drivers log the reason, and then stumble over the consequence."""
        last = self._secrets.mask(self._errors.last)[:_TEXT_MAX].rstrip(".")
        logged = f". It had logged: {last}" if last and last not in text else ""
        return _supposed_cause(error) + logged


def _supposed_cause(error: BaseException) -> str:
    """What a fault in a program usually comes from: in a driver's code from what it was not given, in ours from ourselves."""
    if not isinstance(error, _MISTAKES):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    if frames and Path(frames[-1].filename).is_relative_to(_OURS):
        return " (a fault in Brickwork's code, or this class is no driver as Cinder knows them)"
    return " (usually for want of an option, or of the array)"


def _kind_of(error: BaseException, *, opening: bool) -> type[PortError]:
    """What a driver's exception means for who called."""
    from cinder import exception
    from oslo_config import cfg

    to_change = (
        cfg.Error,
        exception.InvalidConfigurationValue,
        exception.InvalidConnectorException,
        exception.ManageExistingAlreadyManaged,
        exception.ManageExistingInvalidReference,
        exception.ManageExistingVolumeTypeMismatch,
    )
    if isinstance(error, NotImplementedError):
        return Unsupported
    if isinstance(error, to_change) or (opening and isinstance(error, exception.InvalidInput)):
        return Terminal
    return Unavailable if opening else Retryable


class _Masked(logging.Formatter):
    """Log lines without secrets, each with its level before it, for the daemon."""

    def __init__(self, secrets: KnownSecrets) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return levels.mark(self._secrets.mask(super().format(record)), record.levelno)


class _LastError(logging.Handler):
    """Keeps the last error that was logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = " ".join(record.getMessage().split())


def main() -> None:
    secrets = KnownSecrets()
    stderr = logging.StreamHandler()
    stderr.setFormatter(_Masked(secrets))
    logging.basicConfig(level=logging.WARNING, handlers=[stderr])
    debug, concurrency = sys.argv[1] == "debug", int(sys.argv[2])
    if debug:
        logging.getLogger("cinder").setLevel(logging.DEBUG)
        logging.getLogger("os_brick").setLevel(logging.DEBUG)
    serve(
        Worker(secrets).handlers(),
        concurrency=concurrency,
        on_start=lambda: library.prepare(secrets.add),
        secrets=secrets,
    )


if __name__ == "__main__":
    main()
