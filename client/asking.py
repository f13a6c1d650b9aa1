"""The one question before data is lost, or more than one device goes: put on a terminal, answered by `--yes`.

A script has nobody to be asked. There silence is no yes: without `--yes` nothing is written.
"""

from __future__ import annotations

import click

from client.exits import Misuse, Unmet
from client.session import Session


def agree(session: Session, question: str, *, yes: bool, otherwise: str = "nothing was written") -> None:
    """Come back only with a yes. `otherwise`: what a no comes to."""
    if yes:
        return
    if not session.interactive():
        raise Misuse(f"{question} Nobody is here to be asked: say --yes. {otherwise[0].upper()}{otherwise[1:]}")
    if not click.confirm(question, default=False, err=True):
        raise Unmet(otherwise)
