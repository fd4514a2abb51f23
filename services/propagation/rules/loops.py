"""Rules whose events come back to them: an event would go round for ever.

Told by what can be seen in the file: a rule's case leads to another one if an event that it publishes, or a change that
it makes, may be taken there. A topic out of a template cannot be seen, and neither can what others make of a request:
those are bounded when they run (performing.py).
"""

from collections.abc import Iterator, Mapping, Sequence

from services.propagation.rules.changes import Announce
from services.propagation.rules.outlines import SAME_TOPIC, announced, published
from services.propagation.rules.requests import Action, Publish
from services.propagation.rules.rule import Rule

Step = tuple[str, int]
"""A rule's name, and the number of its case."""


def loops(rules: Mapping[str, Rule]) -> Iterator[list[Step]]:
    """Loops, each as the steps of one turn; every rule that is in a loop is in one of those told."""
    listeners: dict[str, list[str]] = {}
    for name, rule in rules.items():
        for topic in rule.topics:
            listeners.setdefault(topic, []).append(name)
    follows = {
        (name, at): _following(rule, case.actions, rules, listeners)
        for name, rule in rules.items()
        for at, case in enumerate(rule.cases)
    }
    _drop_ends(follows)
    told: set[Step] = set()
    for first in follows:
        if first not in told and (turn := _turn(first, follows)):
            told.update(turn)
            yield turn


def _following(
    rule: Rule, actions: Sequence[Action], rules: Mapping[str, Rule], listeners: Mapping[str, Sequence[str]]
) -> list[Step]:
    found: dict[Step, None] = {}
    for action in actions:
        for topic, event in _events_of(action):
            for heard in rule.topics if topic == SAME_TOPIC else (topic,):
                for name in listeners.get(heard, ()):
                    found.update(dict.fromkeys((name, at) for at in _takers(rules[name], event)))
    return list(found)


def _events_of(action: Action) -> Iterator[tuple[str, Mapping[str, object]]]:
    if isinstance(action, Publish):
        yield from published(action.outline)
    elif isinstance(action, Announce):
        yield from announced(action.outline)


def _drop_ends(follows: dict[Step, list[Step]]) -> None:
    """Leaves the steps that lead into a loop: of most files none, in one go over all of them."""
    before: dict[Step, list[Step]] = {}
    for step, afters in follows.items():
        for after in afters:
            before.setdefault(after, []).append(step)
    left = {step: len(afters) for step, afters in follows.items()}
    ends = [step for step, count in left.items() if not count]
    while ends:
        end = ends.pop()
        del follows[end]
        for step in before.get(end, ()):
            left[step] -= 1
            if not left[step]:
                ends.append(step)
    for step, afters in follows.items():
        follows[step] = [after for after in afters if after in follows]


def _takers(rule: Rule, event: Mapping[str, object]) -> Iterator[int]:
    """The cases that the event may come to: the first that holds is taken."""
    for at, case in enumerate(rule.cases):
        may, surely = case.may_take(event)
        if may:
            yield at
        if surely:
            return


def _turn(first: Step, follows: Mapping[Step, Sequence[Step]]) -> list[Step]:
    """The shortest way from a step back to it; empty when there is none."""
    came: dict[Step, Step] = {}
    border = [first]
    while border:
        step = border.pop(0)
        for after in follows[step]:
            if after == first:
                way = [step]
                while way[-1] != first:
                    way.append(came[way[-1]])
                return way[::-1]
            if after not in came:
                came[after] = step
                border.append(after)
    return []
