"""What the keys mean together, in a user's words: state, conditions, and who is waited for.

    terms        the facts that go in, the states, and the summaries that come out
    reasons      what a controller's reason means for the reader
    attachment   `summarise_attachment`: one table of rules
    volume       `summarise_volume`, `summarise_node`, `summarise_backend`

Pure and total: every combination of keys has a summary, none raises, and no secret goes in or comes out. Status keys hold
facts; what a user reads is derived here and nowhere else, so the clients and the daemons can't disagree.
"""

from schema.summary.attachment import summarise_attachment
from schema.summary.reasons import nobody_leads
from schema.summary.terms import (
    AttachmentFacts,
    AttachmentSummary,
    BackendSummary,
    NodeFacts,
    NodeSummary,
    State,
    VolumeFacts,
    VolumeState,
    VolumeSummary,
)
from schema.summary.volume import summarise_backend, summarise_node, summarise_volume

__all__ = [
    "AttachmentFacts",
    "AttachmentSummary",
    "BackendSummary",
    "NodeFacts",
    "NodeSummary",
    "State",
    "VolumeFacts",
    "VolumeState",
    "VolumeSummary",
    "nobody_leads",
    "summarise_attachment",
    "summarise_backend",
    "summarise_node",
    "summarise_volume",
]
