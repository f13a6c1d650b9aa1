"""etcd: the `Store` port over gRPC, and the embedded etcd of the demo and the tests.

    rpc        where the message classes and method paths come from
    settings   endpoints, certificates, user; what is refused
    faults     gRPC's errors, translated in one table
    calls      unary calls: endpoints, deadlines, retries, log-in
    streams    one life of a watch's stream, read with a time limit
    watching   the watch: resumes, proves itself alive, says what it cannot do
    certificates  whether TLS files can work
    store      `EtcdStore`, which puts the above behind the port
    embedded   a private etcd server process

Threads, not asyncio. A store must not be used in a forked child, nor where something patched `threading`: gRPC hangs there.
"""

import os

# gRPC writes lines of its own to stderr, between ours ("Corruption detected." for a certificate that was refused), with the
# causes that our messages tell. It reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
