"""Two hosts that bear one node id and share one initiator, searched through every order of events (docs/PROTOCOL.md, R17)."""
