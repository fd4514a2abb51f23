"""The allow-list: which identity may call which method. Deny unless a rule allows."""

import re
from collections.abc import Sequence

from libs.auth.options import AuthOptions

_REMEMBERED_IDENTITIES = 4096
"""Identities whose allowed methods are kept at once; more of them cost time, never memory."""


class RuleError(ValueError):
    """A rule that cannot be read: says which and what is allowed."""


class AllowList:
    """Answers, for an identity and a method, whether some rule allows the call.

    Built once from ``AuthOptions``; raises RuleError for a pattern that no identity or method could ever match.
    """

    def __init__(self, options: AuthOptions) -> None:
        self.configured = bool(options.rules)
        self._rules = [
            (_pattern(identity, "identity"), _methods(methods, f"auth.rules[{identity!r}]"))
            for identity, methods in options.rules.items()
        ]
        self._open = _methods(options.open_methods, "auth.open_methods")
        self._decided: dict[str, dict[str, bool]] = {}

    def allows(self, identity: str, method: str) -> bool:
        """Whether ``identity`` may call ``method`` (``package.Service/Method``, no leading slash)."""
        if not self.configured:
            return True
        known = self._decided.get(identity)
        if known is None:
            if len(self._decided) >= _REMEMBERED_IDENTITIES:
                self._decided.clear()
            known = self._decided[identity] = {}
        decision = known.get(method)
        if decision is None:
            decision = known[method] = self._decide(identity, method)
        return decision

    def _decide(self, identity: str, method: str) -> bool:
        if self._open.fullmatch(method):
            return True
        return any(who.fullmatch(identity) and what.fullmatch(method) for who, what in self._rules)


def _pattern(text: str, kind: str) -> re.Pattern[str]:
    if not text or text != text.strip():
        raise RuleError(f"auth: {kind} pattern {text!r} is empty or has spaces around it")
    pieces = re.split(r"(\*\*|\*)", text)
    return re.compile("".join({"**": ".*", "*": "[^/]*"}.get(piece) or re.escape(piece) for piece in pieces), re.DOTALL)


def _methods(patterns: Sequence[str], where: str) -> re.Pattern[str]:
    """One expression for all ``patterns``; each names a service and a method, or is ``**``."""
    if isinstance(patterns, str):
        raise RuleError(f"{where} is one string; a list of method patterns is expected")
    for pattern in patterns:
        if pattern != "**" and (pattern.count("/") != 1 or pattern.startswith("/") or pattern.endswith("/")):
            raise RuleError(
                f"{where}: method pattern {pattern!r}; package.Service/Method, package.Service/* or ** is expected"
            )
    if not patterns:
        return re.compile(r"(?!)")
    return re.compile("|".join(f"(?:{_pattern(pattern, 'method').pattern})" for pattern in patterns))
