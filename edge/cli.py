"""The command line: `ayaz COMMAND`. Commands are imported only when they are called.

Exit status: 0; 1 where something outside is wrong (one line says what and what to do); 2 for wrong
usage; 130 after Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from edge import __version__
from edge.errors import AyazError

# command -> (module:attribute, one line of help)
COMMANDS = {
    "demo": ("edge.demo:demo", "Simulated buses, agents, a broker, the depot and its page, in one go."),
    "run": ("edge.agent:run", "The agent on a bus."),
    "sim": ("sim_bus.command:sim", "The simulated bus on a CAN interface or into a log."),
    "decode": ("edge.can.decode_command:decode", "Any CAN log, through any DBC."),
    "replay": ("edge.replay:replay", "The whole core over a log."),
    "soc": ("edge.battery.soc_command:soc", "The estimator over laboratory or field data."),
    "fit-cell": (
        "edge.battery.fitting.command:fit_cell_command",
        "A cell model from measurements, with a report.",
    ),
    "monitor": ("edge.monitor.command:monitor", "A technician's live view in the terminal."),
    "check": ("edge.check:check", "Every mistake in configuration, DBCs and maps at once."),
    "depot": ("depot.command:depot", "The subscriber, its store and its page."),
    "spool": ("edge.telemetry.spool_command:spool", "What waits on the bus for the depot."),
    "bench": ("edge.bench_command:bench", "The benchmarks, each beside its peers (in a checkout)."),
}
EXTRA_OF = {
    "nicegui": "depot",
    "amqtt": "depot",
    "asammdf": "files",
    "pyarrow": "files",
    "matplotlib": "files",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ayaz")
def ayaz() -> None:
    """Ayaz: the open on-vehicle agent for electric buses that must start at -30 °C.

    \b
    Begin with:  ayaz demo
    """


def main() -> None:
    """Run the command line and exit with its status."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line; the errors that people cause become one line and a status."""
    try:
        result = ayaz.main(arguments, prog_name="ayaz", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("\nayaz: stopped", file=sys.stderr)
        return 130
    except AyazError as error:
        for problem in error.problems:
            print(f"ayaz: {problem}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"ayaz: this needs {error.name}; install it with: pip install 'ayaz[{extra}]'", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nothing is left to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    main()
