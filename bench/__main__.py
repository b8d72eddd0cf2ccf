"""The command line of the benchmarks; `scripts/bench` runs it."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from bench.harness import catalogue, report
from bench.harness.ground import laid
from bench.harness.rounds import play
from bench.harness.row import BenchError
from clan.errors import ClanError

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

FAILED = 2
"""Exit status when something could not be measured at all, or was not asked for rightly."""
INTERRUPTED = 130


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="How many rounds."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def bench(names: tuple[str, ...], *, rounds: int, as_json: bool) -> None:
    """Measure clan against its bounds: all benchmarks, or those of each NAME.

    NAME is a benchmark (a module of bench/) or one of its rows. Rows that need root are left out
    for anyone else. docs/reference/benchmarks.md says how to read the table.

    Exit status: 0 every bound is met, 1 a figure falls short, 2 something could not be measured,
    3 all that was measured is met but rows were left out.

    \b
    Examples:
      scripts/bench
      scripts/bench reach --rounds 9
      scripts/bench reach.start reach.list
      sudo scripts/bench reach --json
    """  # noqa: D301 (click's mark for text that keeps its lines)
    benches = catalogue.benches()
    rows = catalogue.choose(benches, names)
    is_root = os.geteuid() == 0
    left_out = {
        name: "for root only" for name, row in rows.items() if row.needs_root and not is_root
    }
    here = {name: row for name, row in rows.items() if name not in left_out}
    with laid(lambda step: click.echo(f"bench: {step}", err=True)) as ground:
        figures, lacking = play(here, rounds=rounds, ground=ground)
    how = report.Circumstances(
        rounds=rounds,
        load=os.getloadavg()[0],
        processors=os.cpu_count() or 1,
        left_out=left_out | lacking,
    )
    if as_json:
        click.echo(json.dumps(report.document(figures, how), indent=2))
    else:
        click.echo(report.table(benches, figures, how))
    sys.exit(report.status(figures, how))


def main() -> None:
    """Run the command line; a failure is a message and an exit status."""
    # What was begun, above all a lab, is taken away however this ends.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    try:
        code = bench.main(prog_name="scripts/bench", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as fault:
        fault.show()
        sys.exit(FAILED)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except (BenchError, ClanError) as fault:
        click.echo(f"bench: {fault}", err=True)
        if isinstance(fault, ClanError) and fault.hint:
            click.echo(f"hint: {fault.hint}", err=True)
        sys.exit(FAILED)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
