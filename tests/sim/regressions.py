"""Seeds that found a fault of the product, and which. A seed means the same run only as long as the simulator draws the same
from it, so each fault has a test of its own as well, or is caught as a mutant (docs/MUTANTS.md)."""

FOUND = {
    4: "a copy of a node's host took the node over when that was silent (F-D1)",
    9: "the same",
    11: "the same",
    700099: "a fence agent's command switched off the host that it knew by the node's name, and another one was the node (F-D1)",
    # drawn before networks, fence agents and arrays that don't cut were, the lower ones before drains and faults of os-brick's
    # calls: what they play today is another run
    100462: "a volume that grew while a node connected it was taken for another one, for good",
    23: "a verdict stayed for ever when its wish went while nobody led",
    942: "a paused controller's driver call landed after its successor had begun to act",
    1033: "a worker that had died was asked again and again, never started anew",
}
