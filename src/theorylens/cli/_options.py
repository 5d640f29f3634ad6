"""The options that several commands share, and the settings file that may hold them."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from theorylens.locale import LANGUAGES

Command = Callable[..., Any]
DTYPES = ("float16", "bfloat16", "float32", "float64")


class OutputFile(click.Path):
    """A file to be written later, whose name ends as its format demands and whose folder exists now."""

    def __init__(self, *suffixes: str) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)
        self.suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.suffix.lower() not in self.suffixes:
            self.fail(f"{path.name!r} must end with {' or '.join(self.suffixes)}.", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"the folder {str(path.parent)!r} does not exist; create it first.", param, ctx)
        return path


INPUT_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
HTML, JSON, MARKDOWN = OutputFile(".html", ".htm"), OutputFile(".json"), OutputFile(".md")

lang = click.option("--lang", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Language.")
report_file = click.argument("report", type=INPUT_FILE)


def require(extra: str = "") -> Callable[[Command], Command]:
    """The option ``--require``."""
    return click.option(
        "--require", multiple=True, metavar="RULE",
        help=f"Such as 'certificate <= 0.1' or 'TL301 <= 50'; may be repeated.{extra}",
    )  # fmt: skip


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, shown by ``--help`` in the order given."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


# ---------------------------------------------------------------------------------------------------- settings file
def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Make the file's values the defaults of this command, so that a flag still wins."""
    if path is None:
        return
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path.name} is not TOML: {error}", ctx=ctx, param=param) from error
    known = {_key(p): p for p in ctx.command.params if p is not param and p.name not in ("help", None)}
    defaults: dict[str, Any] = {}
    for key, value in given.items():
        option = known.get(key.replace("_", "-"))
        if option is None or option.name is None:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}."
            raise click.BadParameter(f"{path.name} has the unknown key {key!r}; {hint}", ctx=ctx, param=param)
        defaults[option.name] = _value(key, value, option, path, ctx)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _key(param: click.Parameter) -> str:
    flags = [flag.removeprefix("--") for flag in param.opts if flag.startswith("--")]
    return flags[0] if flags else str(param.name)


def _value(key: str, value: Any, option: click.Parameter, path: Path, ctx: click.Context) -> Any:
    several = isinstance(option, click.Option) and option.multiple
    switch = isinstance(option, click.Option) and option.is_flag
    if isinstance(value, dict) or (isinstance(value, bool) != switch):
        wanted = "true or false" if switch else "a text or a number"
        raise click.BadParameter(f"{path.name}: {key} needs {wanted}, got {value!r}.", ctx=ctx, param=option)
    if several:
        return [str(v) for v in value] if isinstance(value, list) else [str(value)]
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value


config = click.option(
    "--config", type=INPUT_FILE, is_eager=True, expose_value=False, callback=_read_config,
    help="TOML file with the same keys as these options; an option given here wins.",
)  # fmt: skip

# ------------------------------------------------------------------------------------------------------- two groups
subject = together(
    click.argument("subject", required=False),
    click.option("--model", metavar="MODULE:NAME", help="Class or function that builds the network."),
    click.option("--weights", metavar="FILE", help="Its weights: .safetensors, or .pt holding a state dict."),
    click.option("--train", metavar="FILE", help="Data the network was fitted to, such as train.npz."),
    click.option("--validation", metavar="FILE", help="Data used for choices: early stopping, hyper-parameters."),
    click.option("--test", metavar="FILE", help="Data used for nothing; certificates rest on that."),
    click.option("--loss", metavar="NAME", help="What training minimised, such as cross_entropy."),
    click.option("--init", metavar="FILE", help="The weights before training."),
    click.option("--checkpoints", metavar="FOLDER", help="Weights along training, in files that end with their step."),
    click.option("--device", default="auto", show_default=True, help="Such as cpu or cuda:0."),
    click.option("--dtype", type=click.Choice(DTYPES), help="Convert weights and inputs; as they are without."),
)


def audit(*, budget: str, out: Path | None = None, json: Path | None = None) -> Callable[[Command], Command]:
    """The options of an audit with the defaults of one command."""
    return together(
        click.option("--budget", default=budget, show_default=True, metavar="TIME",
                     help="Such as 30s, 5m or 1h; 'unlimited' runs every probe at its most draws."),
        click.option("--only", metavar="NAMES", help="Chapters, codes or names, such as landscape,TL3*."),
        click.option("--skip", metavar="NAMES", help="What to leave out, in the same form."),
        click.option("--out", type=HTML, default=out, show_default=True, help="Write the report as one HTML file."),
        click.option("--json", type=JSON, default=json, show_default=True, help="Write the report as JSON."),
        click.option("--markdown", type=MARKDOWN, help="Write a short report for a pull request."),
        require(" Not met: exit code 1."),
        click.option("--allow-crash", multiple=True, metavar="CODE", help="A crash of this probe is no exit code 3."),
        click.option("--delta", type=float, default=0.05, show_default=True,
                     help="Failure probability of each certificate."),
        click.option("--joint", is_flag=True, help="Share delta among all certificates: their least may be quoted."),
        click.option("--comparisons", type=int, default=1, show_default=True, metavar="K",
                     help="Models compared on the test data; paid for by the certificate."),
        click.option("--seed", type=int, default=0, show_default=True, help="Decides every random draw."),
        click.option("--plan", type=INPUT_FILE, help="Repeat the plan of this report.json."),
        lang,
        config,
        click.option("--cache", type=click.Path(file_okay=False, path_type=Path), default=Path(".theorylens"),
                     show_default=True, help="Folder that keeps finished probes."),
        click.option("--fresh", is_flag=True, help="Measure again what the cache folder holds."),
        click.option("--no-progress", is_flag=True, help="No progress on stderr."),
        click.option("--quiet", is_flag=True, help="Neither progress nor summary; files and the exit code remain."),
    )  # fmt: skip


def flags(words: Sequence[tuple[str, object]]) -> list[str]:
    """``(name, value)`` pairs as they would be typed; what is absent is left out."""
    typed: list[str] = []
    for name, value in words:
        if value is True:
            typed.append(f"--{name}")
        elif isinstance(value, tuple):
            typed += [word for one in value for word in (f"--{name}", str(one))]
        elif value is not None and value is not False:
            typed += [f"--{name}", str(value)]
    return typed
