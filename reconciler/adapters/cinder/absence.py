"""What a driver says it does not find: whether that is the volume, and what is told where the storage may be another one (F-D6)."""

from __future__ import annotations

from collections.abc import Sequence

from cinder import exception

from reconciler.adapters.cinder.records import Record
from schema.bounds import several


def mind_what_is_not_found(error: exception.NotFound) -> None:
    """Raises it again where it is another thing of Cinder's that is missing: a settings file, a parameter, a volume type."""
    of_volume = (exception.NotFound, exception.VolumeNotFound, exception.VolumeAttachmentNotFound)
    if type(error).__module__ == exception.__name__ and type(error) not in of_volume:
        raise error


def nothing_found(record: Record, others: Sequence[Record], error: Exception) -> str:
    names = several([other["volume"] for other in others])
    return (
        f"the array does not know the volume ({error}), and none of {names} could be found on it either: is it another "
        "array, or another tenant of it? The volume is not forgotten. If it is known to be gone, put "
        f'desired/deletions/{record["volume"]} {{"uid": "{record["uid"]}", "gone": true}}'
    )
