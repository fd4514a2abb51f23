"""Which licences a wheel says it is under, as SPDX identifiers, out of its METADATA fields."""

import re
from collections.abc import Mapping, Sequence

Fields = Mapping[str, Sequence[str]]

CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# The free-form field, for wheels that have neither an expression nor a classifier.
FREE_FORM = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "MIT": "MIT",
    "MPL-2.0": "MPL-2.0",
    "PSF-2.0": "PSF-2.0",
}


def licences(fields: Fields) -> list[frozenset[str]]:
    """Alternatives, each a set of licences that hold together; empty when the wheel does not say.

    `A AND B OR C` is [{A, B}, {C}]. Expressions with parentheses are refused with a ValueError: read them yourself.
    """
    for expression in fields.get("License-Expression", []):
        if "(" in expression:
            raise ValueError(f"{fields['Name'][0]}: {expression}: parentheses are not read")
        return [frozenset(re.split(r"\s+AND\s+", part)) for part in re.split(r"\s+OR\s+", expression.strip())]
    classifiers = [c.rsplit(" :: ", 1)[-1] for c in fields.get("Classifier", []) if c.startswith("License ::")]
    known = {CLASSIFIERS.get(c, c) for c in classifiers}
    if known:
        return [frozenset(known)]
    for text in fields.get("License", []):
        first = text.strip().splitlines()[0].strip() if text.strip() else ""
        if first:
            return [frozenset({FREE_FORM.get(first, first)})]
    return []


def refused(said: Mapping[str, Fields], allowed: frozenset[str], exceptions: Mapping[str, str]) -> list[str]:
    """A line for each distribution of `said` none of whose alternatives is wholly `allowed`.

    `exceptions` maps a distribution to the one further licence it may be under; one not needed is a line too.
    """
    lines, used = [], set()
    for name, fields in sorted(said.items()):
        alternatives = licences(fields)
        if any(a <= allowed for a in alternatives):
            continue
        extra = exceptions.get(name)
        if extra and any(a <= allowed | {extra} for a in alternatives):
            used.add(name)
            continue
        found = " OR ".join(" AND ".join(sorted(a)) for a in alternatives) or "nothing"
        lines.append(f"{name}: its wheel says {found}")
    lines += [f"{name}: needs no exception (any more)" for name in sorted(set(exceptions) - used)]
    return lines
