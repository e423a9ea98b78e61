"""Write the pages that follow from the code: commands and options, training configurations, the changelog.

    python .ci/reference_pages.py

The pages are committed, so that they can be read without building; a test holds them against the code.
"""

import argparse
import inspect
import re
import types
import typing
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from stableviton_sdk.cli.entry import build_parser
from stableviton_sdk.files import write_text_atomically

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOT_EXECUTED = {
    "app": "goes on until it is interrupted",
    "try-on": "the first one asks for consent to a download",
    "prepare": "needs the networks for photos",
    "convert": "needs the authors' checkpoint",
    "train": "needs the VITON-HD data set",
    "evaluate": "needs the VITON-HD data set",
}


def main() -> None:
    for name, text in pages().items():
        write_text_atomically(DOCS / name, text)


def pages() -> dict[str, str]:
    """Text of the generated pages, by their files' places in the documentation."""
    return {
        "reference/commands.md": commands_page(),
        "reference/configuration.md": configuration_page(),
        "about/changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }


def commands_page() -> str:
    parser = build_parser()
    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    helps = {choice.dest: choice.help for choice in commands._choices_actions}
    lines = [
        "# Commands",
        "",
        "What `stableviton COMMAND --help` prints, as tables; a value in brackets at an entry's end is the default.",
        "`try-on`, `prepare`, `batch` and `evaluate` take the authors' weights and the networks for photos unless",
        "`--model` names others, `demo` and `app` the bundled model. Every command takes `--traceback`, which shows",
        "where an error came from. Offloading is for Python: the commands don't offer it.",
        "",
        "| exit status | meaning |",
        "|---|---|",
        "| 0 | done |",
        "| 1 | failed; one line on stderr says why and what to do. Of `doctor`: something is broken |",
        "| 2 | unusable arguments |",
        "| 130 | interrupted |",
        "",
        "| command | |",
        "|---|---|",
        *(f"| [`{name}`](#{name}) | {helps[name]} |" for name in commands.choices),
        "",
    ]
    for name, command in commands.choices.items():
        lines += [f"## {name}", "", sentence(command.description or helps[name]), ""]
        lines += ["```text", *usage(command), "```", ""]
        lines += ["| option | |", "|---|---|"]
        for action in command._actions:
            if action.help == argparse.SUPPRESS or action.dest in ("help", "traceback"):
                continue
            lines.append(f"| {signature(action)} | {escaped(description(action))} |")
        lines.append("")
        if command.epilog:
            lines += [*examples(name, command.epilog), ""]
    return "\n".join(lines)


def usage(command: argparse.ArgumentParser) -> list[str]:
    """The ways to call a command: its own lines, or the positional arguments and options that must be given."""
    if command.usage:
        return [line.strip() for line in (command.usage % {"prog": command.prog}).splitlines()]
    words = [command.prog]
    for action in command._actions:
        name = str(action.metavar or action.dest.upper())
        if not action.option_strings:
            named = {"*": f"[{name} ...]", "+": f"{name} [...]", "?": f"[{name}]"}
            words.append(named.get(str(action.nargs), name))
        elif action.required:
            words.append(f"{action.option_strings[-1]} {name}")
    return [" ".join([*words, "[options]"])]


def signature(action: argparse.Action) -> str:
    name = action.metavar or ("" if action.nargs == 0 else "VALUE")
    if isinstance(name, tuple):
        name = " ".join(name)
    if action.choices is not None and action.nargs != 0:
        name = "|".join(map(str, action.choices))
    if not action.option_strings:
        return f"`{action.metavar or action.dest.upper()}`"
    return escaped(", ".join(f"`{option}{f' {name}' if name else ''}`" for option in action.option_strings))


def description(action: argparse.Action) -> str:
    values = {key: value for key, value in vars(action).items() if value is not None}
    return sentence((action.help or "") % {**values, "default": action.default})


def examples(name: str, epilog: str) -> list[str]:
    """The examples at the end of a command's help, a line each; why they can't be executed, where they can't."""
    code = [line.strip() for line in epilog.splitlines()[1:]]
    reason = [f'<!-- skip: next "{NOT_EXECUTED[name]}" -->'] if name in NOT_EXECUTED else []
    return [*reason, "```bash", *code, "```"]


def configuration_page() -> str:
    from stableviton_sdk.training.tasks import TASKS

    lines = [
        "# Training configurations",
        "",
        "What `stableviton train` reads: YAML files with the options below. The names of the ones in the package",
        "(`stableviton_sdk/training/configs/`) can be passed instead of a file's. `task` says which of these it is.",
        "",
    ]
    seen: set[type] = set()
    for name, (module, config, *_) in TASKS.items():
        options = getattr(import_module(f"stableviton_sdk.training.{module}"), config)
        lines += section(f"task: {name}", options, seen, level=2)
    return "\n".join(lines)


def section(title: str, config: type[BaseModel], seen: set[type], level: int) -> list[str]:
    lines = [f"{'#' * level} {title}", "", paragraph(inspect.getdoc(config) or ""), ""]
    comments = attribute_comments(config)
    nested: list[tuple[str, type[BaseModel]]] = []
    lines += ["| option | type | default | |", "|---|---|---|---|"]
    for name, field in config.model_fields.items():
        parts = models_in(field.annotation)
        nested += [(name, part) for part in parts if part not in seen]
        seen.update(parts)
        default = "" if field.is_required() else shown(field.get_default(call_default_factory=True))
        text = paragraph(comments.get(name) or field.description or "")
        lines.append(f"| `{name}` | {type_name(field.annotation)} | {default} | {escaped(text)} |")
    lines.append("")
    for name, part in nested:
        lines += section(f"{name} ({part.__name__})", part, seen, level=3)
    return lines


def attribute_comments(config: type[BaseModel]) -> dict[str, str]:
    """The strings that stand below a class's options, of its bases too."""
    import ast
    import textwrap

    comments: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if not (issubclass(base, BaseModel) and base.__module__.startswith("stableviton_sdk")):
            continue
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for statement, after in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                comments[statement.target.id] = after.value.value
    return comments


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def type_name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return type_name(get_args(annotation)[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(part) for part in get_args(annotation))
    if origin is not None:
        inside = ", ".join(type_name(part) for part in get_args(annotation) if part is not Ellipsis)
        return f"{origin.__name__} of {inside}" if inside else origin.__name__
    if annotation is type(None):
        return "null"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "options below"
    return getattr(annotation, "__name__", str(annotation))


def shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple):
        value = list(value)
    return f"`{value}`"


def sentence(text: str) -> str:
    text = paragraph(text)
    return text


def paragraph(text: str) -> str:
    return re.sub(r"\s+", " ", text.partition("\n\n")[0]).strip()


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
