"""Patterns of rule files: `/…/flags` as JavaScript has them, compiled for Python.

A text that begins and ends like that is a pattern, any other text stands for itself. What differs between the two
languages is translated (named groups, the end of the text) or refused by name.
"""

import re

_FORM = re.compile(r"/(.+)/([a-z]*)", re.DOTALL)
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "u": re.UNICODE, "g": re.UNICODE}
_NAMED = re.compile(r"\(\?<([A-Za-z_]\w*)>")


class PatternInvalid(ValueError):
    """The pattern cannot be used; `what` is wrong with it, and what is `allowed`."""

    def __init__(self, what: str, allowed: str) -> None:
        super().__init__(f"{what}; {allowed}")
        self.what = what
        self.allowed = allowed


def is_pattern(text: str) -> bool:
    """Whether the text is a pattern rather than a text that stands for itself."""
    found = _FORM.fullmatch(text)
    return found is not None and set(found[2]) <= set("dgimsuvy")


def compile_pattern(text: str) -> re.Pattern[str]:
    """The pattern that `text` ("/…/flags") stands for. Raises PatternInvalid.

    Groups are all named or all unnamed; `\\d`, `\\w` and `\\s` are ASCII's, as in JavaScript without the flag u.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise PatternInvalid(f'"{text}" is no pattern', 'a pattern is written "/…/"')
    flags = re.ASCII
    for letter in found[2]:
        if letter not in _FLAGS:
            raise PatternInvalid(f'"{text}" has the flag {letter}', "the flags g, i, m, s and u are allowed")
        flags |= _FLAGS[letter] & ~re.UNICODE
    translated = _translated(text, found[1], bool(flags & re.MULTILINE))
    try:
        compiled = re.compile(translated, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternInvalid(f'"{text}" is malformed: {error}', "a regular expression between slashes") from None
    if compiled.groupindex and len(compiled.groupindex) != compiled.groups:
        raise PatternInvalid(
            f'"{text}" mixes named and unnamed groups',
            "name all of them or none; (?:…) is a group that captures nothing",
        )
    return compiled


def _translated(whole: str, body: str, multiline: bool) -> str:
    """The body in Python's writing."""
    out: list[str] = []
    in_class = False
    at = 0
    while at < len(body):
        char = body[at]
        if char == "\\":
            if body[at + 1 : at + 2] in ("A", "Z", "a"):
                raise PatternInvalid(f'"{whole}" has \\{body[at + 1]}', "^ and $ mark the ends of a text")
            out.append(body[at : at + 2])
            at += 2
            continue
        if char == "/" and not in_class:
            raise PatternInvalid(f'"{whole}" has a slash within', "a slash within a pattern is written \\/")
        named = _NAMED.match(body, at) if char == "(" and not in_class else None
        if named is not None:
            out.append(f"(?P<{named[1]}>")
            at = named.end()
            continue
        if char == "[" and in_class:
            out.append("\\")  # stands for itself there; Python warns of it
        in_class = char == "[" or (in_class and char != "]")
        out.append(r"\Z" if char == "$" and not in_class and not multiline else char)
        at += 1
    return "".join(out)


def captured(found: re.Match[str]) -> object:
    """What templates see of a match: by name, or a list whose first member is the whole match."""
    if found.re.groupindex:
        return found.groupdict()
    return [found[0], *found.groups()]
