"""The tree of typed errors: codes, reasons and what they carry."""

import pytest

from libs.errors import errors


def leaves(cls: type[errors.WellspringError]) -> list[type[errors.WellspringError]]:
    below = cls.__subclasses__()
    return [leaf for sub in below for leaf in leaves(sub)] if below else [cls]


def test_every_leaf_has_its_own_canonical_code() -> None:
    codes = [leaf.code for leaf in leaves(errors.WellspringError)]
    assert len(codes) == len(set(codes))
    assert set(errors.Code) - set(codes) == {errors.Code.OK, errors.Code.CANCELLED, errors.Code.UNKNOWN}


@pytest.mark.parametrize("leaf", leaves(errors.WellspringError))
def test_message_reason_and_metadata_are_kept(leaf: type[errors.WellspringError]) -> None:
    error = leaf("says why", reason="SOME_REASON", metadata={"name": "x"})
    assert (str(error), error.message, error.reason, error.metadata) == (
        "says why",
        "says why",
        "SOME_REASON",
        {"name": "x"},
    )
    assert leaf("says why").reason == leaf.default_reason


@pytest.mark.parametrize("reason", ["", "lower", "WITH SPACE", "X" * 64, "1ST"])
def test_a_reason_of_another_form_is_refused(reason: str) -> None:
    with pytest.raises(ValueError, match="UPPER_SNAKE_CASE"):
        errors.NotFound("x", reason=reason)


def test_metadata_is_copied() -> None:
    given = {"a": "1"}
    error = errors.NotFound("x", metadata=given)
    given["a"] = "2"
    assert error.metadata == {"a": "1"}


def test_one_wrong_field_names_itself_in_message_and_violation() -> None:
    error = errors.InvalidArgument.field("items[2].key", "is empty", reason="KEY_EMPTY")
    assert error.message == "items[2].key: is empty"
    assert error.violations == (("items[2].key", "is empty"),)
    assert error.reason == "KEY_EMPTY"


def test_when_to_come_back_is_kept() -> None:
    assert errors.Unavailable("x", retry_after_s=0.5).retry_after_s == 0.5
    assert errors.ResourceExhausted("x").retry_after_s is None
