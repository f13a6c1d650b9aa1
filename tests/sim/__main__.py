"""``python -m tests.sim --seed 7``: one run with its transcript. ``--seeds 1000``: many, and what they found."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter

import click

from tests.sim.run import Result, Run, scenario_of
from tests.sim.story import Recorder


def play(seed: int) -> Result:
    """One seed, without a transcript."""
    result = Run(scenario_of(seed)).play()
    result.transcript = str  # it holds the whole fleet
    return result


@click.command()
@click.option("--seed", type=int, help="Play this one and print its transcript.")
@click.option("--seeds", type=int, default=100, show_default=True, help="Play so many.")
@click.option("--first", type=int, default=0, show_default=True, help="The first of them.")
@click.option("--stop", is_flag=True, help="Stop at the first failure.")
@click.option("--jobs", type=int, default=multiprocessing.cpu_count, help="Processes at once.")
def main(seed: int | None, seeds: int, first: int, stop: bool, jobs: int) -> None:
    """The fleet in the simulator."""
    raise SystemExit(tell_one(seed) if seed is not None else tell_many(range(first, first + seeds), jobs, stop))


def tell_one(seed: int) -> int:
    result = Run(scenario_of(seed), Recorder()).play()
    click.echo(result.transcript())
    click.echo(f"\nseed {seed}: {result.failure or 'settled and quiet'}")
    click.echo("faults:\n" + "\n".join(result.faults))
    click.echo(f"{result.steps} steps, {result.virtual_s:.0f} virtual s, {result.writes} writes")
    return 1 if result.failure else 0


def tell_many(seeds: range, jobs: int, stop: bool = False) -> int:
    """Plays them all, whatever fails, or until one does; prints each failure with the command that repeats it."""
    began_s = time.monotonic()
    steps = writes = failed = 0
    virtual_s = 0.0
    faults: Counter[str] = Counter()
    with multiprocessing.Pool(jobs, Recorder, maxtasksperchild=200) as pool:
        for result in pool.imap_unordered(play, seeds, chunksize=4):
            steps += result.steps
            writes += result.writes
            virtual_s += result.virtual_s
            faults.update(result.kinds)
            if result.failure:
                failed += 1
                click.echo(f"seed {result.seed}: {result.failure[:600]}\n    make sim SEED={result.seed}")
                if stop:
                    break
    took_s = time.monotonic() - began_s
    click.echo(
        f"{len(seeds)} seeds, {failed} failed; {steps} steps, {writes} writes, {sum(faults.values())} faults, "
        f"{virtual_s / 3600:.1f} virtual hours in {took_s:.0f} s ({steps / took_s:.0f} steps/s)"
    )
    for kind, number in faults.most_common():
        click.echo(f"  {number:6}  {kind}")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
