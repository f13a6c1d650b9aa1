"""The fleet in a deterministic simulator: the very daemons that users run, on fakes of all that is outside of them.

One seed is one run: a user's script, faults, and an order in which everything happens. Every call to a port is a point at
which others may go first, the process may be paused, or killed. Invariants are checked at each event (`invariants`);
after the faults have stopped, the fleet must settle to exactly what is wished, and be quiet (`picture`).
"""
