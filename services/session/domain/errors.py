"""What can go wrong with a request to session, as one tree.

WellspringError
├── Unauthenticated
│   ├── SessionInvalid         SESSION_INVALID          absent, expired, revoked, foreign, forged: one answer for all
│   └── ProofNonceNeeded       PROOF_NONCE_NEEDED       all is good but the proof's nonce; metadata "nonce": a fresh one
├── InvalidArgument
│   ├── TokenMalformed         TOKEN_MALFORMED          not of a token's form at all
│   ├── DataTooLarge           DATA_TOO_LARGE           above the realm's limits; metadata "limit_bytes" or "limit_keys"
│   ├── PolicyRefused          POLICY_REFUSED           a realm's policy that may not be
│   └── RequestReused          REQUEST_ID_REUSED        the request_id came with another request before
├── NotFound
│   ├── RealmNotFound          REALM_NOT_FOUND          no such realm, or none that the caller may use
│   ├── SessionNotFound        SESSION_NOT_FOUND        no live session has this handle
│   └── ValueNotFound          VALUE_NOT_FOUND          an opaque realm keeps nothing under this key (any more)
├── AlreadyExists
│   └── RealmExists            REALM_EXISTS
├── PermissionDenied
│   └── DataKeyDenied          DATA_KEY_DENIED          the realm hides this data key from the caller
├── Aborted
│   ├── VersionMismatch        VERSION_MISMATCH         metadata "key", "version": the current one
│   └── RealmChanged           REALM_CHANGED            the etag given is not the current one
├── FailedPrecondition
│   ├── SubjectDiffers         SUBJECT_DIFFERS          a session of one subject cannot become another's
│   ├── KeyNeeded              KEY_NEEDED               something would not open without the key to be retired
│   ├── KeyNotEverywhere       KEY_NOT_EVERYWHERE       a server lacks the key to be promoted; metadata "servers"
│   ├── KeyMadeWith            KEY_MADE_WITH            a server makes with the key to be retired; metadata "servers"
│   ├── AuthenticationRevoked  AUTHENTICATION_REVOKED   all of the subject was revoked after this authentication
│   ├── AnonymousNotAllowed    ANONYMOUS_NOT_ALLOWED    the realm has no anonymous sessions
│   ├── ServersOlder           SERVERS_OLDER            a server of an earlier release lacks it; metadata "servers"
│   ├── FenceRefused           FENCE_REFUSED            no such data centre to shut out, or the last one
│   ├── KeyDeleted             KEY_DELETED              this key of an opaque realm was deleted, and is not used again
│   └── RealmIsOpaque          REALM_IS_OPAQUE          its callers choose the keys: it has no tokens and no handles
├── ResourceExhausted
│   ├── RealmFull              REALM_FULL               an opaque realm keeps as much as it may; metadata "limit"
│   ├── SessionLimit           SESSION_LIMIT            the subject (or the anonymous) have as many as allowed
│   ├── Readmission            READMISSION              the realm was revoked; this login's turn has not come
│   ├── CallerQuota            CALLER_QUOTA             too many calls of this caller
│   ├── AnonymousQuota         ANONYMOUS_QUOTA          too many anonymous sessions made at once, or in a while
│   └── GuessLimit             GUESS_LIMIT              too many failures of this caller or address
└── Unavailable
    ├── Stale                  REVOCATIONS_UNHEARD      what other servers revoked may be unknown to this one
    ├── Resynchronising        RESYNCHRONISING          a data centre is heard again, and not all of it is here yet
    ├── DatacentreFenced       DATACENTRE_FENCED        this data centre is shut out by its administrators
    ├── HomeUnreachable        HOME_UNREACHABLE         it is decided in another data centre, which does not answer
    ├── KeysUnheard            KEYS_UNHEARD             who makes with which keys is not known now
    ├── ProofsBusy             PROOFS_BUSY              too many proofs of possession in a minute
    └── Contended              CONTENDED                many changes of one session at once
"""

from collections.abc import Sequence

from libs.errors.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)


class SessionInvalid(Unauthenticated):
    """The one public failure of a token. It never says more."""

    default_reason = "SESSION_INVALID"

    def __init__(self) -> None:
        super().__init__("the session is not valid")


class ProofNonceNeeded(Unauthenticated):
    """Token and proof are good, and the realm wants the proof made again with the nonce that this brings. Only who has
    both the token and the key hears it."""

    default_reason = "PROOF_NONCE_NEEDED"

    def __init__(self, nonce: str) -> None:
        super().__init__("the proof needs a nonce of this server; make another one with it", metadata={"nonce": nonce})


class TokenMalformed(InvalidArgument):
    """What was sent is no token: told apart, for a caller's mistake is no stranger's guess."""

    default_reason = "TOKEN_MALFORMED"

    def __init__(self, path: str) -> None:
        what = "is not of a token's form: wss_<realm>_<id>.<secret>, as Create or Rotate answered it"
        super().__init__(f"{path}: {what}", violations=[(path, what)])


class DataTooLarge(InvalidArgument):
    """The session's data would exceed the realm's limits."""

    default_reason = "DATA_TOO_LARGE"


class PolicyRefused(InvalidArgument):
    """A realm's policy that may not be; the violations say why."""

    default_reason = "POLICY_REFUSED"


class RequestReused(InvalidArgument):
    """The same request_id with another request."""

    default_reason = "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        what = "came with another request before; a new request needs a new UUID"
        super().__init__(f"request_id: {what}", violations=[("request_id", what)])


class RealmNotFound(NotFound):
    """No such realm, or none that the caller may use: the same words."""

    default_reason = "REALM_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("there is no such realm for this caller")


class SessionNotFound(NotFound):
    """No live session has the handle."""

    default_reason = "SESSION_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("no live session has this handle")


class ValueNotFound(NotFound):
    """Absent, expired, deleted and revoked: the same words."""

    default_reason = "VALUE_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("nothing is kept under this key")


class RealmExists(AlreadyExists):
    """The realm to be created is there."""

    default_reason = "REALM_EXISTS"


class DataKeyDenied(PermissionDenied):
    """The realm's policy hides the key from this caller."""

    default_reason = "DATA_KEY_DENIED"


class VersionMismatch(Aborted):
    """A data key is not at the version asked for."""

    default_reason = "VERSION_MISMATCH"

    def __init__(self, key: str, version: int) -> None:
        what = f"the data key is at version {version}; read it again, then decide"
        super().__init__(what, metadata={"key": key, "version": str(version)})


class RealmChanged(Aborted):
    """The realm was changed meanwhile."""

    default_reason = "REALM_CHANGED"

    def __init__(self, etag: str) -> None:
        super().__init__("the realm was changed meanwhile; read it again, then decide", metadata={"etag": etag})


class SubjectDiffers(FailedPrecondition):
    """Only an anonymous session can be given a subject."""

    default_reason = "SUBJECT_DIFFERS"


class ServersOlder(FailedPrecondition):
    """Servers of an earlier release share the store, and would not keep what this promises."""

    default_reason = "SERVERS_OLDER"

    def __init__(self, ability: str, servers: Sequence[str]) -> None:
        names = ", ".join(sorted(servers))
        super().__init__(
            f"servers of an earlier release lack what this needs ({ability}): {names}; replace them first (one that was"
            " stopped is forgotten within three minutes)",
            metadata={"ability": ability, "servers": names},
        )


class FenceRefused(FailedPrecondition):
    """This data centre cannot be shut out, or let in again: there is none of that name, or it is the last."""

    default_reason = "FENCE_REFUSED"


class AuthenticationRevoked(FailedPrecondition):
    """The authentication is older than a revocation of all that the subject had."""

    default_reason = "AUTHENTICATION_REVOKED"


class KeyNeeded(FailedPrecondition):
    """A key of the keyring cannot be retired yet: by a session of `realm`, or for `left_s` seconds whatever happens."""

    default_reason = "KEY_NEEDED"

    def __init__(self, key_id: str, realm: str, left_s: int = 0) -> None:
        if realm:
            what = (
                f"{key_id} is needed by a session of the realm {realm} at least; sessions stop needing it as they end,"
                " and all at once when their realms are revoked as a whole"
            )
        else:
            what = (
                f"{key_id} was superseded not long ago: calls and assertions under way may need it for {left_s} s yet"
            )
        super().__init__(what, metadata={"key_id": key_id, "realm": realm, "seconds": str(left_s)})


class KeyNotEverywhere(FailedPrecondition):
    """A key cannot be promoted yet: servers of the store lack it."""

    default_reason = "KEY_NOT_EVERYWHERE"

    def __init__(self, key_id: str, servers: Sequence[str]) -> None:
        names = ", ".join(sorted(servers))
        super().__init__(
            f"{key_id} is not in the keyring of {len(servers)} of the servers ({names}): put the same key into each"
            " one's file; a server that has stopped counts for three minutes more",
            metadata={"key_id": key_id, "servers": names},
        )


class KeyMadeWith(FailedPrecondition):
    """A key cannot be retired yet: servers of the store make with it."""

    default_reason = "KEY_MADE_WITH"

    def __init__(self, key_id: str, servers: Sequence[str]) -> None:
        names = ", ".join(sorted(servers))
        super().__init__(
            f"{key_id} is the active key of {len(servers)} of the servers ({names}) yet: they take another one within"
            " seconds of its promotion, or have a file that cannot be written",
            metadata={"key_id": key_id, "servers": names},
        )


class AnonymousNotAllowed(FailedPrecondition):
    """The realm has no anonymous sessions."""

    default_reason = "ANONYMOUS_NOT_ALLOWED"


class KeyDeleted(FailedPrecondition):
    """The key was deleted, or the realm revoked, less than the realm's TTL ago."""

    default_reason = "KEY_DELETED"

    def __init__(self) -> None:
        super().__init__("this key was deleted; a new session needs a new key")


class RealmIsOpaque(FailedPrecondition):
    """An opaque realm has no tokens, handles and subjects."""

    default_reason = "REALM_IS_OPAQUE"

    def __init__(self) -> None:
        what = "the realm is opaque: its keys are its callers', over the Kask-shaped HTTP front"
        super().__init__(f"{what}; Revoke of the whole realm and WatchRevocations are what it has here")


class RealmFull(ResourceExhausted):
    """An opaque realm keeps as many values, or bytes, as it may."""

    default_reason = "REALM_FULL"


class SessionLimit(ResourceExhausted):
    """As many sessions as the realm allows."""

    default_reason = "SESSION_LIMIT"


class Readmission(ResourceExhausted):
    """The whole realm was revoked a while ago, and this login's turn has not come."""

    default_reason = "READMISSION"


class CallerQuota(ResourceExhausted):
    """A caller's calls of this moment are spent."""

    default_reason = "CALLER_QUOTA"


class AnonymousQuota(ResourceExhausted):
    """Those who are not logged in have what they may have of this server."""

    default_reason = "ANONYMOUS_QUOTA"


class GuessLimit(ResourceExhausted):
    """Too many failures: only failures are counted, a good token is served all the same."""

    default_reason = "GUESS_LIMIT"


class KeysUnheard(Unavailable):
    """Other servers may have promoted or retired keys that this one does not know of; or those of a data centre cannot
    be asked or told, so that no key changes (metadata "datacentre", where it is known)."""

    default_reason = "KEYS_UNHEARD"


class ProofsBusy(Unavailable):
    """More proofs of possession than are remembered: none is let in unseen."""

    default_reason = "PROOFS_BUSY"


class Stale(Unavailable):
    """What other servers revoked has not been heard of for longer than the realm's bound."""

    default_reason = "REVOCATIONS_UNHEARD"


class Resynchronising(Unavailable):
    """A data centre that could not be heard is heard again, and not all that it revoked is here yet."""

    default_reason = "RESYNCHRONISING"


class DatacentreFenced(Unavailable):
    """The administrators have shut this data centre out."""

    default_reason = "DATACENTRE_FENCED"


class HomeUnreachable(Unavailable):
    """What is asked for is decided in another data centre, which does not answer."""

    default_reason = "HOME_UNREACHABLE"


class Contended(Unavailable):
    """Too many changes of one session at once: nothing was done."""

    default_reason = "CONTENDED"
