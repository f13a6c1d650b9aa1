"""From a backend's settings to a constructed driver: secrets, options, Cinder's configuration, the driver's class."""

from __future__ import annotations

import difflib
import logging
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oslo_config import cfg

from reconciler.adapters.cinder import classes, library, options
from reconciler.adapters.cinder.shadow import Shadow
from reconciler.core.modes import exposes
from reconciler.runtime.ports import Terminal
from schema.secrets import KnownSecrets

_log = logging.getLogger("reconciler.cinder")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A driver, the section that its options are in, and the ini files that hold them."""

    driver: classes.DriverClass
    known: options.Options
    section: str
    files: tuple[Path | str, ...]


def construct(
    settings: Mapping[str, Any], state_folder: Path, *, empty: bool, secrets: KnownSecrets
) -> tuple[Any, Shadow]:
    """The driver, not yet set up, and its database. Raises Terminal, and whatever the driver's constructor raises.

    Args:
        settings: `backend.BackendSettings` as JSON.
        empty: the backend has no volumes yet (NFS-like drivers then choose the strict file modes).
        secrets: is told those of the settings, before anything could say them.
    """
    given = options.read_secrets(Path(settings["secrets_file"])) if settings["secrets_file"] else {}
    for value in given.values():
        secrets.add(str(value))
        secrets.learn(value)
    chosen = _from_mapping(settings, given) if settings["driver"] else _from_cinder_conf(settings, given)
    forced = library.overrides(chosen.section, state_folder, settings["my_ip"])
    library.configure([library.defaults(state_folder), *chosen.files, forced])
    config = options.configured(chosen.known, chosen.section)
    for secret in options.check_values(config, chosen.known):
        secrets.add(secret)
    serving = chosen.driver.serving
    supported = getattr(serving, "SUPPORTED", True)
    if not (supported or settings["enable_unsupported"] or config.safe_get("enable_unsupported_driver")):
        raise Terminal(f"Cinder does not support {serving.__name__} any more: set enable_unsupported to use it")
    host = f"{library.HOST}@{settings['name']}"
    shadow = Shadow(host)
    driver = chosen.driver.made(
        configuration=config, host=host, cluster_name=None, is_vol_db_empty=empty, active_backend_id=None
    )
    return driver, shadow


def _from_mapping(settings: Mapping[str, Any], secrets: Mapping[str, Any]) -> Chosen:
    values = {"volume_backend_name": settings["name"], **settings["options"], **secrets}
    driver = classes.load(settings["driver"], values)
    known = options.declared(driver.serving)
    options.refuse_unknown(values, known, driver.serving)
    text = options.section(settings["name"], values, known, secret=secrets)
    return Chosen(driver, known, settings["name"], (text,))


def _from_cinder_conf(settings: Mapping[str, Any], secrets: Mapping[str, Any]) -> Chosen:
    """A section of an existing cinder.conf as it is, with `secrets_file` on top."""
    path, name = Path(settings["cinder_conf"]), settings["section"] or settings["name"]
    sections = _parse(path)
    if name not in sections:
        close = difflib.get_close_matches(name, sections, n=1)
        raise Terminal(f"{path} has no section [{name}]" + (f"; did you mean [{close[0]}]?" if close else ""))
    given = sections[name]
    default = sections.get("backend_defaults", {}).get("volume_driver", [options.DEFAULT_DRIVER])
    told = {option: values[-1] for option, values in given.items()} | dict(secrets)
    driver = classes.load(given.get("volume_driver", default)[-1], told)
    known = options.declared(driver.serving)
    for remark in options.unknown(given, known):
        _log.warning("[%s] of %s: %s", name, path, remark)
    options.refuse_unknown(secrets, known, driver.serving)
    ours = {} if "volume_backend_name" in given else {"volume_backend_name": settings["name"]}
    return Chosen(driver, known, name, (path, options.section(name, {**ours, **secrets}, known, secret=secrets)))


def _parse(path: Path) -> dict[str, dict[str, list[str]]]:
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        found = path.stat()
        cfg.ConfigParser(str(path), sections).parse()
    except OSError as error:
        raise Terminal(f"{path} cannot be read: {error.strerror}") from error
    except cfg.ConfigFileParseError as error:
        raise Terminal(f"{path} is not a cinder.conf: {error}") from error
    if exposes(found.st_mode, found.st_uid) and (name := options.first_secret(sections)):
        mode = stat.filemode(found.st_mode)
        raise Terminal(f"{path} holds secrets ({name}) and can be read by others ({mode}): chmod 640 {path}")
    return sections
