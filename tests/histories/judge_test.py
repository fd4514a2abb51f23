"""The judge on histories written by hand: what can be ordered, what cannot, and what makes no sense."""

import itertools
import json

import pytest

from tests.histories.judging import LINEARISABLE, NOT_LINEARISABLE, SENSELESS, judge
from tests.histories.recording import Operation


def history(*operations: Operation) -> str:
    return "".join(f"{operation.line()}\n" for operation in operations)


def call(op, called, returned=0, **rest):
    return Operation(0, rest.pop("record", "r"), op, called, returned, **rest)


def put(called, returned, value, etag, **rest):
    return call("put", called, returned, value=value, etag=etag, **rest)


def lost(called, value, **rest):
    return call("put", called, outcome="unknown", value=value, **rest)


def get(called, returned, value="", etag=""):
    return call("get", called, returned, value=value, etag=etag)


def refused(called, returned, etag="", value="refused", **rest):
    return call("put", called, returned, outcome="refused", value=value, etag=etag, **rest)


def asked(called, returned, etag, outcome="ok"):
    return call("get", called, returned, if_etag=etag, outcome=outcome, untold=True)


def ended(called, returned, outcome="ok", **rest):
    return call("delete", called, returned, outcome=outcome, untold=True, **rest)


FIRST = put(1, 2, "a", "e1", if_absent=True)
OWN = put(1, 2, "a", "e1", if_absent=True, family="f")

GOOD = {
    "one after the other": [FIRST, put(3, 4, "b", "e2", if_etag="e1"), get(5, 6, "b", "e2")],
    "at once, in the order that the read tells": [put(1, 9, "a", "e1"), put(1, 9, "b", "e2"), get(10, 11, "a", "e1")],
    "a delete between": [FIRST, call("delete", 3, 4, if_etag="e1", removed=True), put(5, 6, "b", "e2", if_absent=True)],
    "a delete of nothing": [call("delete", 1, 2), get(3, 4)],
    "a refusal that names what is there": [FIRST, refused(3, 4, "e1", if_absent=True)],
    "a refusal by nothing": [FIRST, call("delete", 3, 4, removed=True), refused(5, 6, "", if_etag="e1")],
    "no answer, and it happened": [FIRST, lost(3, "b", if_etag="e1"), get(9, 10, "b", "e2")],
    "no answer, and it did not happen": [FIRST, lost(3, "b", if_etag="e1"), get(9, 10, "a", "e1")],
    "no answer, and it happened late": [FIRST, lost(3, "b"), get(4, 5, "a", "e1"), get(9, 10, "b", "e2")],
    "no answer, told by a refusal only": [FIRST, lost(3, "b", if_etag="e1"), refused(4, 5, "e2", if_absent=True)],
    "a delete without an answer": [FIRST, call("delete", 3, outcome="unknown", if_etag="e1"), get(9, 10)],
    "asked, and it is so": [FIRST, asked(3, 4, "e1"), ended(5, 6, if_etag="e1"), asked(7, 8, "e1", "refused")],
    "asked of nothing": [asked(1, 2, "e1", "refused"), put(3, 4, "a", "e1")],
    "ended without a word": [FIRST, ended(3, 4), ended(5, 6), put(7, 8, "b", "e2", if_absent=True)],
    "refused without a word": [FIRST, refused(3, 4, if_absent=True, untold=True)],
    "asked, and a put without an answer is there": [FIRST, lost(3, "b", if_etag="e1"), asked(4, 5, "e1", "refused")],
    "replaced, and all of its family ended": [
        OWN,
        put(3, 4, "b", "e2", if_etag="e1", family="f"),
        ended(5, 6, if_family="f"),
    ],
    "ended at once with what replaced it": [
        *(OWN, put(3, 9, "b", "e2", if_etag="e1", family="f"), ended(3, 9, if_family="f")),
        asked(10, 11, "e2", "refused"),
    ],
    "over, whoever ended it": [
        OWN,
        *(ended(t, 9, if_family="f", either=True) for t in (3, 4)),
        asked(10, 11, "e1", "refused"),
    ],
    "each record for itself": [FIRST, put(1, 2, "a", "e1", if_absent=True, record="s")],
}

BAD = {
    "two replaced the same": [FIRST, put(3, 9, "b", "e2", if_etag="e1"), put(3, 9, "c", "e3", if_etag="e1")],
    "two were the first": [FIRST, put(1, 2, "b", "e2", if_absent=True)],
    "a read of the past": [FIRST, put(3, 4, "b", "e2", if_etag="e1"), get(5, 6, "a", "e1")],
    "a read back and forth": [
        put(1, 9, "a", "e1"),
        put(1, 9, "b", "e2"),
        get(10, 11, "a", "e1"),
        get(12, 13, "b", "e2"),
    ],
    "acknowledged and lost": [FIRST, get(3, 4)],
    "never written": [FIRST, get(3, 4, "z", "e9")],
    "another etag than was acknowledged": [FIRST, get(3, 4, "a", "e9")],
    "refused, and yet it happened": [FIRST, refused(3, 4, "e1", "b", if_absent=True), get(5, 6, "b", "e2")],
    "refused, though the condition held": [FIRST, refused(3, 4, "e1", if_etag="e1")],
    "a refusal that names the past": [FIRST, put(3, 4, "b", "e2", if_etag="e1"), refused(5, 6, "e1", if_absent=True)],
    "no answer, and it happened twice": [
        FIRST,
        lost(3, "b"),
        get(4, 5, "b", "e2"),
        call("delete", 6, 7, removed=True),
        get(8, 9, "b", "e2"),
    ],
    "no answer, and its condition did not hold": [
        *(FIRST, put(3, 4, "b", "e2", if_etag="e1"), lost(5, "c", if_etag="e1")),
        get(6, 7, "c", "e3"),
    ],
    "a delete that left it there": [FIRST, call("delete", 3, 4, removed=True), get(5, 6, "a", "e1")],
    "a delete that found what was not there": [call("delete", 1, 2, removed=True)],
    "an etag that came again": [FIRST, put(3, 4, "b", "e1", if_etag="e1")],
    "asked after its end, and it is so": [FIRST, ended(3, 4), asked(5, 6, "e1")],
    "asked, and it is not so": [FIRST, asked(3, 4, "e1", "refused")],
    "refused without a reason": [FIRST, ended(3, 4), refused(5, 6, if_absent=True, untold=True)],
    "ended by what was not there": [FIRST, ended(3, 4), ended(5, 6, if_etag="e1")],
    "ended with its family, and it is so": [OWN, ended(3, 4, if_family="f"), asked(5, 6, "e1")],
    "ended with the family of another": [OWN, ended(3, 4, if_family="g")],
    "replaced at once with its end, and it is so": [
        *(OWN, put(3, 9, "b", "e2", if_etag="e1", family="f"), ended(3, 9, if_family="f")),
        asked(10, 11, "e2"),
    ],
    "over, and it is so": [OWN, ended(3, 4, if_family="f", either=True), asked(5, 6, "e1")],
    "one bad record among good ones": [FIRST, put(1, 2, "a", "e1", record="s"), get(3, 4)],
}

SENSE = {
    "holds no operation": "",
    "line 1": "{",
    "unknown field": '{"record": "r", "op": "get", "colour": "red"}',
    "more than one operation": FIRST.line() + FIRST.line(),
    'op is "take"': history(call("take", 1, 2)),
    'outcome is "perhaps"': history(call("get", 1, 2, outcome="perhaps")),
    "record is empty": history(call("get", 1, 2, record="")),
    "a get has the outcome ok": history(call("get", 1, outcome="unknown")),
    "exclude each other": history(put(1, 2, "a", "e1", if_absent=True, if_etag="e0")),
    "refused without a condition": history(refused(1, 2, "e1")),
    "of which nothing is told": history(put(1, 2, "a", "e1", either=True)),
    "a put without a value": history(put(1, 2, "", "e1")),
    "an answered put without an etag": history(put(1, 2, "a", "")),
    "both value and etag": history(get(1, 2, "a")),
    "an unknown outcome with a return": history(call("delete", 1, 2, outcome="unknown")),
    "return is before call": history(FIRST, get(4, 3)),
    "a get that is untold": history(call("get", 1, 2, untold=True)),
    "and yet it tells": history(FIRST, refused(3, 4, "e1", if_absent=True, untold=True)),
    "told by no put and no get": history(put(1, 2, "a", "e1", if_etag="e0")),
    "line 2: another put": history(FIRST, put(3, 4, "a", "e2")),
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "history.jsonl"


@pytest.mark.parametrize("name", GOOD)
def test_what_can_be_ordered(file, name):
    # The order of the lines means nothing.
    for lines in itertools.permutations(GOOD[name]):
        file.write_text(history(*lines))
        verdict = judge(file)
        assert verdict.code == LINEARISABLE, verdict.said
        assert verdict.said.startswith("linearisable: ")


@pytest.mark.parametrize("name", BAD)
def test_what_cannot(file, name):
    for lines in itertools.permutations(BAD[name][:3]):
        file.write_text(history(*lines, *BAD[name][3:]))
        verdict = judge(file)
        assert verdict.code == NOT_LINEARISABLE, verdict.said
        assert 'record "r"' in verdict.said and 'record "s"' not in verdict.said


def test_the_explanation_shows_how_far_it_goes(file):
    file.write_text(history(FIRST, put(3, 9, "b", "e2", if_etag="e1"), put(3, 8, "c", "e3", if_etag="e1")))
    said = judge(file).said
    assert "2 of 3 operations can be ordered" in said
    assert 'client 0: put "a" if nothing is there -> etag e1' in said
    assert "none of these can come next" in said and " if etag e1 -> etag e" in said
    assert said.endswith("NOT linearisable: 1 records, 3 operations, 0 of them without an answer\n")


@pytest.mark.parametrize("said", SENSE)
def test_what_makes_no_sense_is_refused(file, said):
    file.write_text(SENSE[said])
    verdict = judge(file)
    assert verdict.code == SENSELESS and said in verdict.said, verdict


@pytest.mark.parametrize("options", [["-limit", "0s"], ["-limit", "soon"], ["-colour"], ["more"]])
def test_wrong_arguments_are_refused(file, options):
    file.write_text(history(FIRST))
    verdict = judge(file, *options)
    assert verdict.code == SENSELESS and "judge [-limit DURATION] FILE" in verdict.said, verdict


def test_a_missing_file_is_named(file):
    verdict = judge(file)
    assert verdict.code == SENSELESS and str(file) in verdict.said


def test_a_line_is_what_the_judge_reads():
    assert json.loads(lost(3, "b", if_etag="e1").line()) == {
        "client": 0,
        "record": "r",
        "op": "put",
        "outcome": "unknown",
        "value": "b",
        "if_etag": "e1",
        "call": 3,
    }
