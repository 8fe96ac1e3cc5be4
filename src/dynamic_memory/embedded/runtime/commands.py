# SPDX-License-Identifier: Apache-2.0
"""What the command of a simulated container does: when it ends and how, what it prints, whether it heeds SIGTERM. Pure.

Few commands are understood, the ones that examples and tests are made of: `sleep N`, `true`, `false`, `env`,
`echo …`, `exit N`, and these in a row in `sh -c`, with variables and `trap … TERM`. A script that does something else,
or loops, runs for ever from there on; so does a container without a command. As in a real container the command is
process 1 of its PID namespace, for which SIGTERM does nothing unless it is handled: `sleep 3600` is killed when its
grace is over. An image's own command, and a program that is not known, are taken for ones that end when asked.

The annotation `simulation.dynamicmemory.dev/exit: "30s 1"` ends any container after 30 s, with exit code 1.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from dynamic_memory.embedded.runtime.curves import parse_seconds
from dynamic_memory.errors import InvalidInput

__all__ = ["EXIT_ANNOTATION", "NOT_FOUND", "SIGKILL", "SIGTERM", "Plan", "plan"]

EXIT_ANNOTATION = "simulation.dynamicmemory.dev/exit"
NOT_FOUND = 127
SIGKILL, SIGTERM = 137, 143
"""Exit codes of processes that a signal ended."""
KNOWN = frozenset({"sleep", "true", "false", "echo", "env", "printenv"})
SHELLS = frozenset({"sh", "bash", "ash", "dash"})
MAX_CODE = 255
_TRAP = re.compile(r"trap\s+(?:'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<bare>\S+))\s+(?P<signals>[A-Z0-9 ]+)")
_QUOTED_OR_NAME = re.compile(r"'[^']*'|\$(?:(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\})")
_GREP = re.compile(r"grep(?:\s+-\w+)*\s+(?P<word>\S+)")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What will happen.

    Attributes:
        seconds: after which it ends by itself; infinite if it does not.
        code: its exit code then.
        term: its exit code if it is asked to end; None if it does not heed that.
        output: what it prints at its start.

    """

    seconds: float = math.inf
    code: int = 0
    term: int | None = 0
    output: str = ""


def plan(command: Sequence[str], env: Mapping[str, str], exit_after: str | None = None) -> Plan:
    """Return what a command will do.

    Args:
        command: `command` and `args` of the container, together; empty for the image's own.
        env: its environment.
        exit_after: the annotation, if there is one.

    Raises:
        InvalidInput: the annotation cannot be read.

    """
    found = _script(command, env) if command else Plan()
    if exit_after is None:
        return found
    words = exit_after.split()
    seconds = parse_seconds(words[0]) if len(words) in {1, 2} else None
    if seconds is None or (len(words) == 2 and not _is_code(words[1])):  # noqa: PLR2004 - time and code
        raise InvalidInput(EXIT_ANNOTATION, "a time and maybe an exit code, such as `30s 1`", exit_after)
    code = int(words[1]) if len(words) > 1 else 0
    return msgspec.structs.replace(found, seconds=seconds, code=code)


def _is_code(word: str) -> bool:
    return word.isdecimal() and int(word) <= MAX_CODE


def _script(command: Sequence[str], env: Mapping[str, str]) -> Plan:
    name = command[0].rpartition("/")[2]
    if name in SHELLS and len(command) > 2 and command[1] == "-c":  # noqa: PLR2004 - sh -c script
        return _shell(command[2], env)
    if name not in KNOWN:
        return Plan()
    run = _Run(env)
    run.statement(list(command))
    return run.plan()


def _shell(script: str, env: Mapping[str, str]) -> Plan:
    run = _Run(env)
    rest = script
    if match := _TRAP.search(script):
        rest = script[: match.start()] + script[match.end() :]
        action = match["single"] or match["double"] or match["bare"] or ""
        if "TERM" in match["signals"] or "15" in match["signals"].split():
            run.trap(action)
    for text in re.split(r";|&&|\n", rest):
        statement = text.strip()
        if not statement or statement.startswith("#"):
            continue
        if not run.text(statement):
            break
    return run.plan()


class _Run:
    """A command that is gone through in thought."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._seconds = 0.0
        self._code = 0
        self._term: int | None = None
        self._output: list[str] = []

    def plan(self) -> Plan:
        return Plan(seconds=self._seconds, code=self._code, term=self._term, output="".join(self._output))

    def trap(self, action: str) -> None:
        words = action.split()
        self._term = int(words[1]) if words[:1] == ["exit"] and len(words) > 1 and _is_code(words[1]) else 0

    def text(self, statement: str) -> bool:
        """Do a statement of a shell; False if nothing comes after it."""
        head, _, tail = statement.partition("|")
        try:
            words = shlex.split(_QUOTED_OR_NAME.sub(self._value, head))
        except ValueError:
            words = ["?"]
        if words[:1] == ["exec"]:
            words = words[1:]
        if words[:1] == ["env"] and len(words) == 1 and (match := _GREP.fullmatch(tail.strip())):
            self._print(line for line in self._lines() if match["word"].strip("'\"") in line)
            return True
        return self.statement(words if not tail else ["?"])

    def _value(self, match: re.Match[str]) -> str:
        """Return what a shell puts in the place of a variable; what is in single quotes stays."""
        name = match["name"] or match["braced"]
        return self._env.get(name, "") if name else match[0]

    def statement(self, words: list[str]) -> bool:
        """Do a command; False if nothing comes after it."""
        name, arguments = words[0].rpartition("/")[2], words[1:]
        if name == "sleep":
            self._seconds += sum(_pause(word) for word in arguments)
        elif name in {"true", ":"}:
            self._code = 0
        elif name == "false":
            self._code = 1
        elif name == "echo":
            self._print([" ".join(arguments)])
        elif name in {"env", "printenv"} and not arguments:
            self._print(self._lines())
        elif name == "exit":
            self._code = int(arguments[0]) if arguments and _is_code(arguments[0]) else self._code
            return False
        else:
            self._seconds = math.inf
        return self._seconds < math.inf

    def _lines(self) -> list[str]:
        return [f"{key}={value}" for key, value in self._env.items()]

    def _print(self, lines: Iterable[str]) -> None:
        self._output += [f"{line}\n" for line in lines]


def _pause(word: str) -> float:
    return math.inf if word in {"inf", "infinity"} else parse_seconds(word) or 0.0
