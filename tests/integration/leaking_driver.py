"""A Cinder driver that says everything it knows, in every way that drivers have. Loaded as `leaking_driver.LeakingDriver`.

What it makes up itself is derived from its option `leak_seed`, so that the test knows what to look for.
"""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import sys
import threading
from typing import Any
from urllib.parse import quote

from cinder.volume import configuration, volume_utils
from oslo_config import cfg

from reconciler.adapters.cinder.noop_driver import NoopDriver

OWN: list[cfg.Opt] = [
    cfg.StrOpt("leak_seed"),
    cfg.StrOpt("leak_password", secret=True),
    cfg.StrOpt("leak_phrase", secret=True),
    cfg.StrOpt("leak_chap_secret", secret=True),
    cfg.StrOpt("leak_odd", secret=True),
    cfg.StrOpt("leak_word", secret=True),
    cfg.StrOpt("leak_url"),
    cfg.StrOpt("leak_mount_options"),
]
cfg.CONF.register_opts(OWN, group=configuration.SHARED_CONF_GROUP)
LOG = logging.getLogger("cinder.leaking")


class LeakingDriver(NoopDriver):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OWN)
        self._failed: set[str] = set()

    @staticmethod
    def get_driver_options() -> list[cfg.Opt]:
        return [*NoopDriver.get_driver_options(), *OWN]

    def _made(self, name: str) -> str:
        return f"{self.configuration.leak_seed}-{name}"

    def do_setup(self, context: Any) -> None:
        super().do_setup(context)
        self._say(*(getattr(self.configuration, option.dest) for option in OWN if option.dest != "leak_seed"))

    def _say(self, *secrets: str) -> None:
        for secret in secrets:
            print(f"printed {secret}", flush=True)
            LOG.debug("debugged %s", secret)
            LOG.error("running ['tool', '%s'] failed", secret)
            os.write(2, f"from C: {secret}\n".encode())
            subprocess.run(["cat"], input=f"a tool says {secret}\n", text=True, check=True)
            LOG.warning("GET /login?%s failed", quote(secret))
            LOG.warning("said %r, and sent %s", [secret], base64.b64encode(secret.encode()).decode())
            LOG.warning("sent Authorization: Basic %s", base64.b64encode(f"me:{secret}".encode()).decode())
            thread = threading.Thread(target=_raise, args=(secret,))
            thread.start()
            thread.join()

    def _fail_once(self, step: str, *known: str) -> None:
        """With what is known by its value, and with what only its surroundings tell."""
        if step not in self._failed:
            self._failed.add(step)
            unknown = [
                f"https://admin:{self._made('url')}@array/api",
                f"tool --pass {self._made('argv')} run",
                f"Authorization: Bearer {self._made('bearer')}",
                f"{{'san_password': '{self._made('dict')}'}}",
                f"mysql://cinder:{self._made('dsn')}@db/x",
            ]
            raise RuntimeError(f"{step} failed: {' '.join(known)} {' '.join(unknown)}")

    def create_volume(self, volume: Any) -> dict[str, Any]:
        volume.admin_metadata = {"chap_password": self._made("admin")}
        return {
            **(super().create_volume(volume) or {}),
            "provider_auth": f"CHAP someone {self._made('chap')}",
            "metadata": {"mutual_chap_secret": self._made("mutual")},
        }

    def validate_connector(self, connector: Any) -> None:
        """A host without any initiator will do."""

    def create_export(self, context: Any, volume: Any, connector: Any) -> Any:
        generated = volume_utils.generate_password()
        sys.stderr.write(f"generated:{generated[::-1]} and said: {generated}\n")
        self._say(self._made("chap"), self._made("mutual"))
        self._fail_once("export", self._made("chap"), self.configuration.leak_password)
        return super().create_export(context, volume, connector)

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        self._fail_once("connect", self._made("chap"), self.configuration.leak_phrase)
        answer = super().initialize_connection(volume, connector)
        answer["driver_volume_type"] = "noop"
        answer["data"] |= {
            "auth_password": self._made("auth"),
            "discovery_auth_password": self._made("discovery"),
            "keyring": f"[client.x]\n\tkey = {self._made('ring')}\n",
            "options": f"-o username=me,password={self._made('nfs')}",
        }
        return answer

    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> Any:
        late = [self._made(name) for name in ("auth", "discovery", "ring", "nfs")]
        self._say(*late)
        self._fail_once("terminate", *late)
        return super().terminate_connection(volume, connector, **kwargs)


def _raise(secret: str) -> None:
    raise KeyError(secret)
