"""The rules with one taken away or replaced; what the search finds then stands in docs/PROTOCOL.md."""

from __future__ import annotations

from reconciler.core.ownership import Look, Others, Ownership, ThisHost, ownership
from schema.keys import Family, Key
from schema.models import FenceStatement, NodeRecord
from tests.model.clones.rules import NODE, Rules
from tests.model.clones.state import Host, Identity, Keys


class WithoutFolder(Rules):
    """Nothing is kept in the state folder, or the folders know nothing of hosts. Not needed for safety."""

    folder_is_checked = False


class SignOfLifeIsAHint(WithoutFolder):
    """No precondition of acting. Holds as well; what it gives up are hosts that bear one identity."""

    waits_for_sign_of_life = False


class ByLifeAlone(WithoutFolder):
    """As it was: `alive/N` free is enough, and whoever is N speaks for all boots."""

    def ownership(self, look: Look, this: ThisHost, keys: Keys) -> Ownership:
        return Ownership()

    def others(self, look: Look, boot: str, this: ThisHost) -> Others:
        return Others()


class ByFolderAlone(ByLifeAlone):
    """Only the identity in the state folder is looked at."""

    folder_is_checked = True


class OneIdentity(WithoutFolder):
    """Nothing tells the two hosts from each other."""

    def identity(self, host: Host) -> Identity:
        return 1


class SpeaksForAll(WithoutFolder):
    """Only one host is N, but it speaks for every older boot, of whatever host."""

    def others(self, look: Look, boot: str, this: ThisHost) -> Others:
        return Others()


class PublishesOverOthers(SignOfLifeIsAHint):
    """Epochs are of hosts, but any host publishes itself as N."""

    def ownership(self, look: Look, this: ThisHost, keys: Keys) -> Ownership:
        return Ownership()


class AnyFence(WithoutFolder):
    """A word takes any fence, and so does who speaks for another host."""

    def ownership(self, look: Look, this: ThisHost, keys: Keys) -> Ownership:
        return ownership(_stronger(look), NODE, this, None)


def _stronger(look: Look) -> Look:
    def stronger(key: Key) -> object:
        value = look(key)
        return value.model_copy(update={"proof": "powered_off"}) if isinstance(value, FenceStatement) else value

    return stronger  # type: ignore[return-value]


class WordAndSilence(SignOfLifeIsAHint):
    """A word wants no fence, only that `alive/N` is free."""

    def ownership(self, look: Look, this: ThisHost, keys: Keys) -> Ownership:
        own = ownership(look, NODE, this, None)
        record = look(Key(Family.NODE, (NODE,)))
        if own.fault and this.word and keys.alive is None and isinstance(record, NodeRecord):
            return Ownership()
        return own


class RevivesFormerHosts(WithoutFolder):
    """What another host of the name was left with, cut off on somebody's word alone, keeps nothing from the node."""

    def reviving(self, keys: Keys) -> tuple[str, ...]:
        return ()


class LatchAlone(ByLifeAlone):
    """Instead of identities, whoever met a living rival stays out, also after a restart."""

    latches = True


class LatchOnTop(WithoutFolder):
    """All rules, and the latch."""

    latches = True


class KeepsOthersOut(Rules):
    """Who may not be the node puts the sign of life all the same."""

    folder_is_checked = False

    def may_put_alive(self, fault: str) -> bool:
        return True


class LogsInByItself(WithoutFolder):
    """All rules are on, and hosts log in by themselves after a power cut: beyond any rule."""

    logs_in_by_itself = True
