"""The command group, and the one place where an error becomes an exit code."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

import theorylens

from ._audits import audit, check, demo
from ._certifying import certify
from ._describing import explain, init, listing
from ._exits import INTERRUPTED, UNEXPECTED, UNREAD
from ._sample_size import sample_size
from ._stored import advise, compare, gate, render

EPILOG = """\b
First steps
  theorylens demo digits                      a whole audit on data that scikit-learn carries
  theorylens init                             write a commented subject.py
  theorylens check subject.py:make            is it fit to be audited, and what will it cost
  theorylens audit subject.py:make --budget 2m --out report.html --json report.json
  theorylens gate report.json --require "certificate <= 0.1"

\b
Exit codes, the first that applies
  130 interrupted, finished probes are kept   3 a probe crashed, the report is written
    2 wrong usage                             1 a requirement is not met
    4 the subject cannot be loaded or         5 nothing was measured
      is not fit to be audited                0 none of these
   70 an error of theorylens itself, with its traceback
"""


class _Commands(click.Group):
    """Lists commands in the order in which a newcomer meets them, and lets a reader of stdout leave early."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        try:
            returned = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # click would exit with 1, which means that a requirement is not met
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
            return UNREAD
        return returned


@click.group(cls=_Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(theorylens.__version__, prog_name="theorylens")
def commands() -> None:
    """Look at a trained PyTorch network through learning theory: how well will it generalise, why, what to change."""


for command in (demo, audit, check, certify, init, listing, explain, compare, gate, render, advise, sample_size):
    commands.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit with its code; see the exit codes in ``theorylens --help``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a narrow locale must not turn a finished audit into a crash
    sys.exit(_code(arguments))


def _code(arguments: Sequence[str] | None) -> int:
    try:
        returned = commands.main(args=arguments, prog_name="theorylens", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except Exception:  # noqa: BLE001 - Python would exit with 1, which means that a requirement is not met
        traceback.print_exc()
        return UNEXPECTED
    return returned if isinstance(returned, int) else 0
