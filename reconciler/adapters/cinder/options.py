"""A backend's options: checked against what its driver declares, before the driver sees them.

oslo.config ignores what it does not know and tells of a wrong type only when the driver reads the option, perhaps hours later.
Here a mistake is told at once: the option's name, what was given, what is expected, which names there are.

Two ways to give options: a mapping in the controller's settings, or a section of a cinder.conf that exists already. The latter
is taken as it is: it may hold leftovers that no driver knows, so an unknown name there is only worth a warning.
"""

from __future__ import annotations

import difflib
import importlib
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cinder.volume import configuration
from oslo_config import cfg
from oslo_config import types as cfg_types

from reconciler.adapters.cinder import catalog, former_options, written
from reconciler.runtime.ports import Terminal

Options = Mapping[str, cfg.Opt]
DEFAULT_DRIVER = f"{catalog.ROOT}lvm.LVMVolumeDriver"

_SECRET_WORDS = ("password", "secret", "token", "passphrase", "api_key")
_URL_PASSWORD = re.compile(r"://[^/\s:@]{0,200}:[^/\s@]{1,200}@")
_MANAGER_OPTIONS = (  # of Cinder's volume manager (which is not loaded: it brings 17 MB), but drivers read some of them
    cfg.StrOpt("volume_driver", default=DEFAULT_DRIVER),
    cfg.StrOpt("extra_capabilities", default="{}"),
    cfg.BoolOpt("suppress_requests_ssl_warnings", default=False),
    cfg.IntOpt("backend_native_threads_pool_size", default=20),
)
_KEYRING = cfg.StrOpt("rbd_keyring_conf", help="Cinder 29 reads this option, but registers it no more")


def declared(driver: Any) -> dict[str, cfg.Opt]:
    """All options that mean something in this driver's section, by name, former names included."""
    shared = configuration.SHARED_CONF_GROUP
    if "rbd" in driver.__module__:
        cfg.CONF.register_opt(_KEYRING, group=shared)
    options = [*_MANAGER_OPTIONS, *own(driver)]
    # Cinder's modules register their options in the shared group when they are imported, hence those of this driver too.
    options += [info["opt"] for info in cfg.CONF._get_group(shared)._opts.values()]
    for kind in driver.__mro__:  # a driver from elsewhere may do so only in its constructor
        if not kind.__module__.startswith(("cinder.", "builtins")):
            options += _options_in(importlib.import_module(kind.__module__))
    names = {option.dest: option for option in options}
    return {former.name: option for option in options for former in option.deprecated_opts if former.name} | names


def configured(known: Options, section_name: str) -> Any:
    """Cinder's `Configuration` of a section, with all these options."""
    for (
        option
    ) in _MANAGER_OPTIONS:  # not in the shared group: Cinder's manager, when a driver imports it, wants to do that
        cfg.CONF.register_opt(option, group=section_name)
    unique = {id(option): option for option in known.values() if option not in _MANAGER_OPTIONS}
    return configuration.Configuration(list(unique.values()), config_group=section_name)


def own(driver: Any) -> list[cfg.Opt]:
    """The options that the driver itself says it has."""
    if not hasattr(driver, "get_driver_options"):  # a proxy from elsewhere: only what it registers is known
        return []
    try:
        return list(driver.get_driver_options() or ())
    except KeyError:  # some count options of Cinder's volume manager among theirs, and look for them where it puts them
        importlib.import_module("cinder.volume.manager")
        return list(driver.get_driver_options() or ())


def _options_in(module: Any) -> list[cfg.Opt]:
    lists = [value for value in vars(module).values() if isinstance(value, list | tuple)]
    return [option for value in lists for option in value if isinstance(option, cfg.Opt)]


def refuse_unknown(given: Iterable[str], known: Options, driver: Any) -> None:
    """Raises Terminal for the first name that nobody would ever read."""
    for name in given:
        if name not in known:
            raise Terminal(f"unknown option {name}{_instead(name, known)} {driver.__name__} has: {_names(own(driver))}")


def unknown(given: Iterable[str], known: Options) -> list[str]:
    """Remarks on the names that nobody would ever read."""
    return [f"nobody reads option {name}{_instead(name, known)}".rstrip(".") for name in given if name not in known]


def _instead(name: str, known: Options) -> str:
    """What it may be called, as the end of a sentence."""
    if former := former_options.hint(name, known):
        return f": {former}."
    close = [each for each in difflib.get_close_matches(name, known, n=5) if _is_typo(name, each)]
    return f"; did you mean {close[0]}?" if close else "."


def _is_typo(given: str, name: str) -> bool:
    """Alike in every word: options that differ in one word (`iscsi_…`, `iser_…`) are others, however long the rest is."""
    mine, theirs = given.split("_"), name.split("_")
    if len(mine) != len(theirs):
        return _ratio(given.replace("_", ""), name.replace("_", "")) > 0.9
    return all(
        sorted(one) == sorted(other) or _ratio(one, other) >= 0.75 for one, other in zip(mine, theirs, strict=True)
    )


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _names(options: Iterable[cfg.Opt]) -> str:
    return ", ".join(sorted(option.dest for option in options)) or "no options of its own"


def read_secrets(path: Path) -> dict[str, Any]:
    """A YAML mapping of options. Raises Terminal, also when others than its owner may read it."""
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Terminal(f"{path} can be read by others ({stat.filemode(mode)}): chmod 600 {path}")
        content = written.read(path.read_text())
    except OSError as error:
        raise Terminal(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise Terminal(f"{path} is not UTF-8") from None
    except written.NotYaml as error:  # whose text may quote a secret
        line = f": line {error.line}" if error.line else ""
        raise Terminal(f"{path}{line}: this is not YAML") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise Terminal(f"{path} must hold a mapping of options")
    return content


def section(name: str, values: Mapping[str, Any], known: Options, secret: Iterable[str]) -> str:
    """A section of an ini file that oslo.config reads as exactly these values. Raises Terminal for a wrong type.

    Args:
        secret: names whose values are taken literally. In others, ``$name`` refers to another option, as in any cinder.conf.
    """
    lines = [f"[{name}]"]
    secret = set(secret)
    for key, value in values.items():
        option = known[key]
        literal = key in secret or is_secret(option)
        for one in value if option.multi and isinstance(value, list | tuple) else [value]:
            text = _to_text(key, option, one)
            if literal or "$" not in text:
                _check_type(key, option, text)
            lines.append(f"{key} = {_quote(key, text, literal)}")
    return "\n".join(lines) + "\n"


def is_secret(option: cfg.Opt) -> bool:
    return bool(option.secret) or any(word in option.dest for word in _SECRET_WORDS)


def first_secret(sections: Mapping[str, Mapping[str, Iterable[str]]]) -> str:
    """The first option of a parsed cinder.conf that is a secret by its name, or is a URL with a password."""
    for section_name, given in sections.items():
        for key, values in given.items():
            if any(word in key for word in _SECRET_WORDS) or any(_URL_PASSWORD.search(value) for value in values):
                return f"[{section_name}] {key}"
    return ""


def _to_text(key: str, option: cfg.Opt, value: Any) -> str:
    if value is None or (isinstance(value, str) and "\n" in value):
        raise Terminal(f"option {key} has {'no value' if value is None else 'a line break in its value'}")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{name}:{item}" for name, item in value.items())
    if isinstance(value, list | tuple):
        text = ", ".join(map(str, value))
        return f"[{text}]" if getattr(option.type, "bounds", False) else text
    return str(value)


def _check_type(key: str, option: cfg.Opt, text: str) -> None:
    try:
        option.type(text)
    except ValueError:
        shown = "a value (not shown)" if is_secret(option) else repr(text)
        raise Terminal(f"option {key} is {shown}, but must be {expected(option)}") from None


def expected(option: cfg.Opt) -> str:
    """What an option's values look like, in words."""
    kind = option.type
    if choices := getattr(kind, "choices", None):
        return f"one of {', '.join(map(str, choices))}"
    words = {cfg_types.Boolean: "true or false", cfg_types.Integer: "a whole number", cfg_types.Float: "a number"}
    words |= {cfg_types.Port: "a port number", cfg_types.Dict: "key:value pairs", cfg_types.List: "a list"}
    parts = [words.get(type(kind), "a text")]
    limits = {"at least": getattr(kind, "min", None), "at most": getattr(kind, "max", None)}
    parts += [f"{word} {limit}" for word, limit in limits.items() if limit is not None]
    if regex := getattr(kind, "regex", None):
        parts.append(f"matching {regex.pattern}")
    return ", ".join(parts)


def _quote(key: str, text: str, literal: bool) -> str:
    """oslo.config substitutes ``$name``, and strips spaces and a pair of quotes from a value."""
    if literal:
        if r"\$" in text:
            raise Terminal(rf"option {key} contains \$, which oslo.config cannot express: change that password")
        text = text.replace("$", "$$")
    return f'"{text}"' if text != text.strip() or text[:1] in ("'", '"') else text


def check_values(config: Any, known: Options) -> list[str]:
    """Read each option of a parsed section once; returns the secrets. Raises Terminal for one that can't be read.

    Args:
        config: Cinder's `Configuration` of the section.
    """
    secrets = []
    for option in {id(option): option for option in known.values()}.values():
        try:
            value = getattr(config, option.dest)
        except (cfg.ConfigFileValueError, cfg.NoSuchOptError, cfg.TemplateSubstitutionError, ValueError) as error:
            raise Terminal(f"[{config.config_group}] {_explain(option, error)}") from None
        if is_secret(option) and isinstance(value, str) and value != option.default:
            secrets.append(value)
    return secrets


def _explain(option: cfg.Opt, error: Exception) -> str:
    if not isinstance(error, ValueError):
        return f"option {option.dest}: a $ refers to another option; write $$ for the character itself"
    shown = "" if is_secret(option) else f" ({error})"
    return f"option {option.dest} must be {expected(option)}{shown}"
