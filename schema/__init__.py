"""What is in etcd: keys, values, and what they mean together.

Imports nothing else of Brickwork, so any program may use it to read or write the keys. `BRICKWORK` marks the package as ours:
another distribution of the same name would silently overwrite it, and the daemons refuse to start then.
"""

BRICKWORK = "brickwork"
"""Checked by the daemons at start."""

SCHEMA_VERSION = 1
"""Written into every value. A value with a newer one is left alone and reported."""
