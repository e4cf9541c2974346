"""``uwserve completion SHELL``: a script for bash, zsh or fish, made from the command's own grammar.

So a script is never out of date: every option of the parser is completed, with its choices, or with file names.
"""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from .parser import make_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .parser import Parser


def completion(arguments: argparse.Namespace) -> int:
    """The command."""
    print({"bash": bash, "zsh": zsh, "fish": fish}[arguments.shell](make_parser()), end="")
    return 0


def _options(parser: Parser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings]


def _takes_value(action: argparse.Action) -> bool:
    return action.nargs != 0


def _is_file(action: argparse.Action) -> bool:
    return action.metavar == "FILE" or (action.metavar == "PATH" and action.type is None)  # else a path of a URL


def _is_folder(action: argparse.Action) -> bool:
    return action.metavar == "DIR"


def _values(action: argparse.Action) -> list[str]:
    return [str(choice) for choice in action.choices or ()]


def _short(action: argparse.Action) -> str:
    """One line of help, without what would need quoting twice."""
    text = " ".join((action.help or "").split()).partition(";")[0].partition(" (default")[0]
    return "".join(character for character in text if character not in "'\"`$\\[]:")[:80]


def _positional(parser: Parser) -> list[str]:
    return [choice for action in parser._actions if not action.option_strings for choice in _values(action)]


# --- bash ---


def bash(parser: Parser) -> str:
    """Words of the option before, then those of the sub-command."""
    lines = [
        "# bash completion of uwserve",
        "_uwserve() {",
        "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command= word",
        '    for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do',
        f"        case $word in {'|'.join(parser.commands)}) command=$word; break ;; esac",
        "    done",
        "    COMPREPLY=()",
        "    case $command,$previous in",
    ]
    for name, command in parser.commands.items():
        for action in _options(command):
            if _takes_value(action):
                places = " | ".join(f"{name},{text}" for text in action.option_strings)
                lines.append(f"        {places}) {_bash_values(action)}; return ;;")
    lines += ["    esac", "    case $command in"]
    for name, command in parser.commands.items():
        words = [*_positional(command), *(text for action in _options(command) for text in action.option_strings)]
        lines.append(f'        {name}) COMPREPLY=($(compgen -W {shlex.quote(" ".join(words))} -- "$current")) ;;')
    words = [*parser.commands, *(text for action in _options(parser) for text in action.option_strings)]
    lines += [
        f'        *) COMPREPLY=($(compgen -W {shlex.quote(" ".join(words))} -- "$current")) ;;',
        "    esac",
        "}",
        "complete -F _uwserve uwserve",
        "",
    ]
    return "\n".join(lines)


def _bash_values(action: argparse.Action) -> str:
    if values := _values(action):
        return f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(values))} -- "$current"))'
    if _is_file(action):
        return 'COMPREPLY=($(compgen -f -- "$current"))'
    if _is_folder(action):
        return 'COMPREPLY=($(compgen -d -- "$current"))'
    return ":"


# --- zsh ---


def zsh(parser: Parser) -> str:
    """``_arguments`` for each sub-command."""
    lines = ["#compdef uwserve", "_uwserve() {", "    local state line", "    local -a commands", "    commands=("]
    lines += [f"        {shlex.quote(f'{name}:{_help(parser, name)}')}" for name in parser.commands]
    lines += ["    )", "    _arguments -C \\"]
    lines += [f"        {spec} \\" for action in _options(parser) for spec in _zsh_specs(action)]
    lines += [
        "        '1:command:->command' '*::argument:->arguments'",
        "    case $state in",
        "        command) _describe command commands ;;",
        "        arguments)",
        "            case $line[1] in",
    ]
    for name, command in parser.commands.items():
        specs = [spec for action in _options(command) for spec in _zsh_specs(action)]
        words = _positional(command)
        specs.append(shlex.quote(f"1:argument:({' '.join(words)})" if words else "1:argument: "))
        joined = " \\\n                    ".join(specs)
        lines.append(f"                {name}) _arguments {joined} ;;")
    lines += ["            esac ;;", "    esac", "}"]
    # Autoloaded from a file of fpath it is a function's body; otherwise it is evaluated.
    lines += ['if [ "$funcstack[1]" = _uwserve ]; then _uwserve "$@"; else compdef _uwserve uwserve; fi', ""]
    return "\n".join(lines)


def _zsh_specs(action: argparse.Action) -> Iterator[str]:
    value = ""
    if _takes_value(action):
        words = _values(action)
        kind = "_files" if _is_file(action) else "_files -/" if _is_folder(action) else " "
        optional = ":" if action.nargs == "?" else ""
        value = f":{optional}{action.dest}:{'(' + ' '.join(words) + ')' if words else kind}"
    for text in action.option_strings:
        repeated = "*" if isinstance(action, argparse._AppendAction) else ""
        yield shlex.quote(f"{repeated}{text}[{_short(action)}]{value}")


# --- fish ---


def fish(parser: Parser) -> str:
    """A line for each word."""
    names = " ".join(parser.commands)
    lines = ["# fish completion of uwserve", "complete -c uwserve -f"]
    none = f"not __fish_seen_subcommand_from {names}"
    lines += [
        f"complete -c uwserve -n {shlex.quote(none)} -a {name} -d {shlex.quote(_help(parser, name))}"
        for name in parser.commands
    ]
    lines += [f"complete -c uwserve -n {shlex.quote(none)} {_fish_option(action)}" for action in _options(parser)]
    for name, command in parser.commands.items():
        seen = shlex.quote(f"__fish_seen_subcommand_from {name}")
        lines += [f"complete -c uwserve -n {seen} {_fish_option(action)}" for action in _options(command)]
        lines += [f"complete -c uwserve -n {seen} -a {word}" for word in _positional(command)]
    return "\n".join([*lines, ""])


def _fish_option(action: argparse.Action) -> str:
    words = [f"-l {text[2:]}" if text.startswith("--") else f"-s {text[1:]}" for text in action.option_strings]
    if _takes_value(action):
        if values := _values(action):
            words.append(f"-x -a {shlex.quote(' '.join(values))}")
        elif _is_file(action):
            words.append("-r -F")
        elif _is_folder(action):
            words.append("-x -a '(__fish_complete_directories)'")
        else:
            words.append("-x" if action.nargs != "?" else "")
    if short := _short(action):
        words.append(f"-d {shlex.quote(short)}")
    return " ".join(word for word in words if word)


def _help(parser: Parser, name: str) -> str:
    """What the list of sub-commands says of one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                if choice.dest == name:
                    return _short(choice)
    return ""
