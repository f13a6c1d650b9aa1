"""Cinder as a library: what a process needs before it can load a driver, without any of Cinder's services.

The order matters throughout, and each step is done once per process: a worker that is to be configured anew is started anew.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HOST = "brickwork"
"""Cinder's ``host``, part of every volume's ``host@backend#pool``. Constant: a standby on another machine is the same host."""


def prepare(secret_made: Callable[[str], object] = lambda _: None) -> None:
    """Import Cinder (about a second), with native threads instead of eventlet's.

    Args:
        secret_made: is told each password that Cinder makes up (CHAP's), before a driver has it.
    """
    os.environ["OS_CINDER_DISABLE_EVENTLET_PATCHING"] = "1"
    # Drivers run Cinder's own programs (cinder-rtstool), which are beside our interpreter, and on nobody's PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    logging.getLogger("cinder.monkey_patch").setLevel(logging.ERROR)  # it warns that threads are experimental
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    from cinder import monkey_patch

    monkey_patch.patch("threading")
    from cinder import objects

    objects.register_all()  # before any driver is imported
    import cinder.common.config  # registers my_ip, state_path…: once settings are read, no command line option may come
    import cinder.volume.driver  # noqa: F401
    from cinder.volume import volume_utils

    generate = volume_utils.generate_password

    def generate_and_tell(*args: Any, **kwargs: Any) -> str:
        password: str = generate(*args, **kwargs)
        secret_made(password)
        return password

    volume_utils.generate_password = generate_and_tell


def configure(files: Sequence[Path | str]) -> None:
    """Read settings and set up what drivers take for granted: locks, privileges.

    Args:
        files: ini files: a path, or a text, which is never on a disk. Later ones override earlier ones.
    """
    import os_brick
    from cinder import coordination
    from oslo_config import cfg
    from oslo_log import log as oslo_log

    oslo_log.register_options(cfg.CONF)  # oslo's own set-up would log where a foreign cinder.conf says
    with ExitStack() as stack:
        paths = [str(file) if isinstance(file, Path) else _in_memory(file, stack) for file in files]
        arguments = [argument for path in paths for argument in ("--config-file", path)]
        cfg.CONF(arguments, project="cinder", default_config_dirs=[], use_env=False)
    Path(cfg.CONF.oslo_concurrency.lock_path).mkdir(parents=True, exist_ok=True)
    os_brick.setup(cfg.CONF)
    _run_privileged_code_here()
    coordination.COORDINATOR.start()


def defaults(state_folder: Path) -> str:
    """Settings that an existing cinder.conf may override: locks are only worth something if all of a host share them."""
    return f"[DEFAULT]\nstate_path = {state_folder}\n[oslo_concurrency]\nlock_path = {state_folder}/locks\n"


def overrides(section: str, state_folder: Path, my_ip: str | None) -> str:
    """Settings that are ours whatever an existing cinder.conf says."""
    lines = ["[DEFAULT]", f"host = {HOST}", f"enabled_backends = {section}"]
    lines += [f"my_ip = {my_ip}"] if my_ip else []
    lines += ["[database]", "connection = sqlite://"]  # in memory, see `shadow`
    # Between hosts our own election excludes; tooz's etcd locks poll, and have no fencing.
    lines += ["[coordination]", f"backend_url = file://{state_folder}/locks", ""]
    return "\n".join(lines)


def _in_memory(text: str, stack: ExitStack) -> str:
    """A path under which `text` can be read until the stack is left."""
    fd = os.memfd_create("cinder.conf")
    stack.callback(os.close, fd)
    os.write(fd, text.encode())
    return f"/proc/self/fd/{fd}"


def _run_privileged_code_here() -> None:
    """As root: without sudo and without privsep's helper processes, which a kill of this session would have to find."""
    if os.geteuid() != 0:
        return
    import cinder.privsep
    import os_brick.privileged
    from cinder import utils

    utils.get_root_helper = lambda: ""
    for context in (
        cinder.privsep.sys_admin_pctxt,
        os_brick.privileged.default,
        os_brick.privileged.brick_privsep_hide_output,
    ):
        context.set_client_mode(False)
