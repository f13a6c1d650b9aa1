"""Foreign code in killable children: both ends of the pipe.

Python cannot cancel a thread, and a driver call that lands after its caller has moved on can unmap a device in use. So Cinder
and os-brick run in processes of their own that can be ended *provably*: when `Child.kill` returns, nothing of them is left.

    daemon ── exec ──▶ keeper (session leader, one thread) ── exec ──▶ worker (foreign code) ──▶ lvcreate, iscsiadm …

The daemon writes one JSON line per request, the worker one per reply. The *keeper* does nothing but wait: for the daemon's end
of the request pipe to close (the daemon died, however it died) or for the worker to end. Then it kills whatever is left in its
session, and leaves last. The worker asks the kernel for SIGKILL when the keeper dies (PR_SET_PDEATHSIG is bound to the
parent's *thread*, and the keeper has only one), and sees the end of the pipe itself.

Secrets stay between them. Each end of the pipe knows the secrets of all that went through it (`schema.secrets`), and the worker
tells of those that it learned by itself: from a file, or by making them up. What comes from the worker as text, be it an error,
a log line, or something that a program below it printed, passes the daemon's `KnownSecrets`, at this one place. A reply is
checked, too: what is none, or is too long, ends the worker, and leaves the outcome of its calls open.

What belongs to a child: every process of its session. A descendant that leaves the session has made itself a daemon (a FUSE
client, iscsid): that is data path, and is left alone. A session's number may be used again, so every descendant also carries
a random token in its environment: it proves the session when a restarted daemon looks for survivors (`end_survivors`).
"""

from reconciler.adapters.child.daemon import Child
from reconciler.adapters.child.levels import level_of
from reconciler.adapters.child.sessions import end_survivors
from reconciler.adapters.child.worker import serve

__all__ = ["Child", "end_survivors", "level_of", "serve"]
