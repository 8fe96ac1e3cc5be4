# SPDX-License-Identifier: Apache-2.0
r"""Regular expressions of RE2's kind: time linear in the text, no backtracking, no back references.

A pattern becomes a small program for a set of threads; the sets reached, and where a character leads from each, are
remembered, so that a pattern turns into an automaton as far as texts make it. `matches` goes once through the text.
`find` starts at each place in turn, and all work is counted: what would take longer than `WORK` steps is refused.

Supported: literals, `.`, classes with ranges, escapes (`\d \w \s \pL`) and POSIX names, `^ $ \A \z \b \B`, groups,
alternation, repetition with its lazy forms, and the flags i, m, s, U. Source: RE2's syntax.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable
from typing import NoReturn

from dynamic_memory.cel.errors import Fault

__all__ = ["WORK", "Regex", "compile_regex"]

WORK = 60_000
"""Most steps of one call."""
MAX_REPEAT = 1000
MAX_PROGRAM = 5000
MAX_DEPTH = 200

Matcher = Callable[[str], bool]
_CHAR, _SPLIT, _ASSERT, _MATCH = range(4)
_CLASSES: dict[str, Matcher] = {
    "d": lambda c: "0" <= c <= "9",
    "w": lambda c: c == "_" or (c.isascii() and c.isalnum()),
    "s": lambda c: c in "\t\n\f\r ",
}
_POSIX: dict[str, Matcher] = {
    "alpha": lambda c: c.isascii() and c.isalpha(),
    "digit": _CLASSES["d"],
    "alnum": lambda c: c.isascii() and c.isalnum(),
    "upper": lambda c: "A" <= c <= "Z",
    "lower": lambda c: "a" <= c <= "z",
    "space": lambda c: c in "\t\n\v\f\r ",
    "blank": lambda c: c in "\t ",
    "punct": lambda c: c.isascii() and c.isprintable() and not c.isalnum() and c != " ",
    "xdigit": lambda c: c in "0123456789abcdefABCDEF",
    "word": _CLASSES["w"],
    "ascii": str.isascii,
    "cntrl": lambda c: c < " " or c == "\x7f",
    "graph": lambda c: "!" <= c <= "~",
    "print": lambda c: " " <= c <= "~",
}
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}


class _Compiler:
    """Recursive descent over the pattern; each function returns a fragment as a nested tuple."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0
        self.flags = frozenset[str]()
        self.code: list[tuple[int, object, int]] = []

    def fail(self, problem: str) -> NoReturn:
        raise Fault(f"error parsing regexp: {problem}: `{self.pattern}`")

    def peek(self) -> str:
        return self.pattern[self.at] if self.at < len(self.pattern) else ""

    # Fragments are functions: given the address to go on with, they emit code and return their own address.
    def alternation(self) -> Callable[[int], int]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail("expression nests too deeply")
        branches = [self.sequence()]
        while self.peek() == "|":
            self.at += 1
            branches.append(self.sequence())
        self.depth -= 1
        if len(branches) == 1:
            return branches[0]

        def emit(after: int) -> int:
            start = branches[-1](after)
            for branch in reversed(branches[:-1]):
                start = self.add(_SPLIT, start, branch(after))
            return start

        return emit

    def add(self, op: int, argument: object, after: int) -> int:
        if len(self.code) >= MAX_PROGRAM:
            self.fail("expression too large")
        self.code.append((op, argument, after))
        return len(self.code) - 1

    def sequence(self) -> Callable[[int], int]:
        parts: list[Callable[[int], int]] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated())

        def emit(after: int) -> int:
            for part in reversed(parts):
                after = part(after)
            return after

        return emit

    def repeated(self) -> Callable[[int], int]:
        atom = self.atom()
        bounds = self.bounds()
        if bounds is None:
            return atom
        lazy = ("U" in self.flags) != (self.peek() == "?")
        self.at += self.peek() == "?"
        if self.bounds() is not None:
            self.fail("invalid nested repetition operator")
        low, high = bounds

        def split(body: int, after: int) -> int:
            return self.add(_SPLIT, body if lazy else after, after if lazy else body)

        def emit(after: int) -> int:
            if high is None:
                loop = self.add(_SPLIT, 0, 0)
                body = atom(loop)
                self.code[loop] = (_SPLIT, body if lazy else after, after if lazy else body)
                after = loop
            else:
                end = after
                for _ in range(high - low):
                    after = split(atom(after), end)
            for _ in range(low):
                after = atom(after)
            return after

        return emit

    def bounds(self) -> tuple[int, int | None] | None:
        sign = self.peek()
        if sign in ("*", "+", "?"):
            self.at += bool(sign)
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign] if sign else None
        if sign != "{":
            return None
        closing = self.pattern.find("}", self.at)
        low, comma, high = self.pattern[self.at + 1 : max(closing, self.at + 1)].partition(",")
        if closing < 0 or not _number(low) or (high and not _number(high)):
            return None
        self.at = closing + 1
        bounds = int(low), (int(low) if not comma else int(high) if high else None)
        if bounds[0] > MAX_REPEAT or (bounds[1] is not None and not bounds[0] <= bounds[1] <= MAX_REPEAT):
            self.fail("invalid repeat count")
        return bounds

    def atom(self) -> Callable[[int], int]:  # noqa: PLR0911 - a table of cases
        char = self.peek()
        self.at += 1
        if char == "(":
            return self.group()
        if char == "[":
            return self.one(self.char_class())
        if char == ".":
            return self.one((lambda _: True) if "s" in self.flags else (lambda c: c != "\n"))
        if char == "^":
            return self.check("line-start" if "m" in self.flags else "start")
        if char == "$":
            return self.check("line-end" if "m" in self.flags else "end")
        if char in "*+?":
            self.fail(f"missing argument to repetition operator: `{char}`")
        if char == "\\":
            return self.escaped()
        return self.one(self.literal(char))

    def one(self, matcher: Matcher) -> Callable[[int], int]:
        return lambda after: self.add(_CHAR, matcher, after)

    def check(self, kind: str) -> Callable[[int], int]:
        return lambda after: self.add(_ASSERT, kind, after)

    def literal(self, char: str) -> Matcher:
        if "i" in self.flags and char.lower() != char.upper():
            folded = char.casefold()
            return lambda c: c.casefold() == folded
        return char.__eq__

    def group(self) -> Callable[[int], int]:
        outer = self.flags
        if self.peek() == "?":
            rest = self.pattern[self.at + 1 :]
            if rest.startswith(("P<", "<")) and not rest.startswith(("<=", "<!")):
                self.at = self.pattern.find(">", self.at) + 1
                if not self.at:
                    self.fail("invalid named capture")
            else:
                self.at += 1
                if not self.read_flags():
                    return lambda after: after
        inner = self.alternation()
        if self.peek() != ")":
            self.fail("missing closing )")
        self.at += 1
        self.flags = outer
        return inner

    def read_flags(self) -> bool:
        """Take `i:`, `i-s:` or `i)`; tell whether a group follows."""
        flags, on = set(self.flags), True
        while True:
            char = self.peek()
            self.at += 1
            if char == "-" and on:
                on = False
            elif char in ("i", "m", "s", "U"):
                flags = flags | {char} if on else flags - {char}
            elif char in (":", ")"):
                self.flags = frozenset(flags)
                return char == ":"
            else:
                self.fail("invalid or unsupported Perl syntax")

    def escaped(self) -> Callable[[int], int]:
        char = self.peek()
        anchors = {"A": "start", "z": "end", "b": "boundary", "B": "no-boundary"}
        if char in anchors and char:
            self.at += 1
            return self.check(anchors[char])
        if char == "Q":
            end = self.pattern.find("\\E", self.at)
            text = self.pattern[self.at + 1 : end if end >= 0 else len(self.pattern)]
            self.at = end + 2 if end >= 0 else len(self.pattern)
            matchers = [self.literal(c) for c in text]
            return lambda after: functools.reduce(lambda to, m: self.add(_CHAR, m, to), reversed(matchers), after)
        found = self.escape()
        return self.one(self.literal(found) if isinstance(found, str) else found)

    def escape(self) -> str | Matcher:  # noqa: PLR0911 - a table of cases
        char = self.peek()
        self.at += 1
        if char and char in "dws":
            return _CLASSES[char]
        if char and char in "DWS":
            positive = _CLASSES[char.lower()]
            return lambda c: not positive(c)
        if char and char in "pP":
            return self.category(negated=char == "P")
        if char in _CONTROL:
            return _CONTROL[char]
        if char == "x":
            return self.hexadecimal()
        if char and char in "01234567" and (char == "0" or self.peek() in tuple("01234567")):
            digits = char
            while len(digits) < 3 and self.peek() in tuple("01234567"):  # noqa: PLR2004 - octal escapes have three digits
                digits += self.peek()
                self.at += 1
            return chr(int(digits, 8))
        if not char or (char.isascii() and char.isalnum()):
            self.fail("invalid escape sequence" if char else "trailing backslash at end of expression")
        return char

    def hexadecimal(self) -> str:
        braced = self.peek() == "{"
        end = self.pattern.find("}", self.at) if braced else self.at + 2
        digits = self.pattern[self.at + braced : max(end, self.at)]
        self.at = end + braced
        try:
            return chr(int(digits, 16))
        except (ValueError, OverflowError):
            self.fail("invalid escape sequence")

    def category(self, *, negated: bool) -> Matcher:
        name = self.peek()
        self.at += 1
        if name == "{":
            end = self.pattern.find("}", self.at)
            name = self.pattern[self.at : max(end, self.at)]
            self.at = end + 1
        if name.startswith("^"):
            negated, name = not negated, name[1:]
        if name == "Any":
            return lambda _: not negated
        if not 1 <= len(name) <= 2 or name[0] not in "LMNPSZC":  # noqa: PLR2004 - general categories: L, Lu
            self.fail("invalid or unsupported character class range")
        return lambda c: unicodedata.category(c).startswith(name) != negated

    def char_class(self) -> Matcher:
        negated = self.peek() == "^"
        self.at += negated
        matchers: list[Matcher] = []
        ranges: list[tuple[str, str]] = []
        first = True
        while self.peek() != "]" or first:
            first = False
            if self.pattern.startswith("[:", self.at):
                end = self.pattern.find(":]", self.at)
                name = self.pattern[self.at + 2 : max(end, self.at + 2)]
                self.at = end + 2
                posix = _POSIX.get(name.removeprefix("^"))
                if posix is None:
                    self.fail("invalid character class range")
                matchers.append((lambda c, m=posix: not m(c)) if name.startswith("^") else posix)  # type: ignore[misc] # a default binds the loop's value
                continue
            low = self.class_char()
            if not isinstance(low, str):
                matchers.append(low)
                continue
            high = low
            if self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                upper = self.class_char()
                if not isinstance(upper, str) or upper < low:
                    self.fail("invalid character class range")
                high = upper
            ranges.append((low, high))
        self.at += 1
        ignore_case = "i" in self.flags

        def inside(char: str) -> bool:
            forms = {char, char.lower(), char.upper()} if ignore_case else (char,)
            return any(a <= c <= b for c in forms for a, b in ranges) or any(m(c) for c in forms for m in matchers)

        return (lambda c: not inside(c)) if negated else inside

    def class_char(self) -> str | Matcher:
        char = self.peek()
        if not char:
            self.fail("missing closing ]")
        self.at += 1
        return self.escape() if char == "\\" else char


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5  # noqa: PLR2004 - more digits are beyond any limit


class Regex:
    """A compiled pattern."""

    def __init__(self, pattern: str) -> None:
        compiler = _Compiler(pattern)
        emit = compiler.alternation()
        if compiler.at < len(pattern):
            compiler.fail("unexpected )")
        match = compiler.add(_MATCH, None, 0)
        self._start = emit(match)
        self._code = compiler.code
        self._word = _CLASSES["w"]
        self._contextual = any(op == _ASSERT for op, _, _ in self._code)
        self._closures: dict[tuple[tuple[int, ...], int], tuple[tuple[int, ...], bool]] = {}
        self._steps: dict[tuple[tuple[int, ...], str], tuple[int, ...]] = {}
        self._work = 0

    def matches(self, text: str) -> bool:
        """Tell whether the pattern is found anywhere in the text.

        Raises:
            Fault: it would take too long.

        """
        return self._run(text, 0, anchored=False) is not None

    def find(self, text: str, start: int = 0) -> tuple[int, int] | None:
        """Return where the leftmost match begins and ends, as Perl would choose it.

        Raises:
            Fault: it would take too long.

        """
        if self._run(text, start, anchored=False) is None:
            return None
        spent = 0
        for begin in range(start, len(text) + 1):
            end = self._run(text, begin, anchored=True)
            spent += self._work
            if end is not None:
                return begin, end
            if spent > WORK:
                self._too_long()
        return None

    def _too_long(self) -> NoReturn:
        raise Fault("operation cancelled: regular expression takes too long on this text")

    def _context(self, text: str, at: int) -> int:
        if not self._contextual:
            return 0
        before = text[at - 1] if at else ""
        after = text[at] if at < len(text) else ""
        boundary = bool(before and self._word(before)) != bool(after and self._word(after))
        return (
            (not before) | (not after) << 1 | (before in ("", "\n")) << 2 | (after in ("", "\n")) << 3 | boundary << 4
        )

    def _run(self, text: str, at: int, *, anchored: bool) -> int | None:
        """Return where the preferred match ends; an unanchored run stops at the first end of any match."""
        self._work = 0
        threads: tuple[int, ...] = (self._start,)
        end: int | None = None
        closures, steps, start = self._closures, self._steps, self._start
        while True:
            key = (threads, self._context(text, at))
            found = closures.get(key)
            if found is None:
                found = self._close(*key)
            ready, matched = found
            if matched:
                end = at
                if not anchored:
                    return end
            if at == len(text) or (not ready and anchored):
                return end
            step = (ready, text[at])
            following = steps.get(step)
            if following is None:
                following = self._step(*step)
            at += 1
            self._work += 1
            if self._work > WORK:
                self._too_long()
            threads = following if anchored or start in following else (*following, start)

    def _close(self, threads: tuple[int, ...], context: int) -> tuple[tuple[int, ...], bool]:
        ready: list[int] = []
        seen: set[int] = set()
        matched = False
        stack = list(reversed(threads))
        code = self._code
        holds = {
            "start": context & 1, "end": context & 2, "line-start": context & 4, "line-end": context & 8,
            "boundary": context & 16, "no-boundary": not context & 16,
        }  # fmt: skip
        while stack:
            at = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            op, argument, after = code[at]
            if op == _CHAR:
                ready.append(at)
            elif op == _SPLIT:
                stack += (argument, after)  # type: ignore[arg-type] # the argument of a split is an address
            elif op == _MATCH:
                matched = True
                break
            elif holds[str(argument)]:
                stack.append(after)
        self._work += len(seen)
        self._remember()
        result = self._closures[threads, context] = tuple(ready), matched
        return result

    def _step(self, ready: tuple[int, ...], char: str) -> tuple[int, ...]:
        code = self._code
        following: dict[int, None] = {}
        for at in ready:
            _, matcher, after = code[at]
            if matcher(char) is True:  # type: ignore[operator] # the argument of a character is its matcher
                following[after] = None
        self._work += len(ready)
        self._remember()
        result = self._steps[ready, char] = tuple(following)
        return result

    def _remember(self) -> None:
        if len(self._steps) + len(self._closures) > 10_000:  # noqa: PLR2004 - a bound on memory, no more
            self._steps.clear()
            self._closures.clear()


@functools.lru_cache(maxsize=256)
def compile_regex(pattern: str) -> Regex:
    """Compile a pattern, or return it from the cache.

    Raises:
        Fault: it is no pattern of RE2.

    """
    return Regex(pattern)
