"""Session: sessions and their data, revocations, rotated tokens."""

from tests.checks.check import Check, Site
from wellspring_client.errors import SessionInvalid
from wellspring_client.session import Token, add_data, set_data
from wellspring_client.sync import Realm


def _is_good(realm: Realm, token: Token) -> bool:
    try:
        realm.validate(token)
    except SessionInvalid:
        return False
    return True


class Sessions(Check):
    """A session lives, and its data is what was last acknowledged."""

    def initialise(self, site: Site) -> None:
        minted = site.client.session.realm("web").create("check-lives", data={"k": b"0"})
        self.token, self.handle, self.subject = minted.token, minted.session.handle, minted.session.subject

    def manipulate(self, site: Site, turn: int) -> None:
        realm = site.client.session.realm("web")
        realm.update_data(self.token, set_data("k", str(turn).encode()), add_data("n", turn))

    def validate(self, site: Site) -> None:
        realm = site.client.session.realm("web")
        found = realm.validate(self.token, data_keys=["*"])
        assert {key: held.value for key, held in found.data.items()} == {"k": b"2", "n": b"3"}
        assert (found.session.handle, found.session.subject) == (self.handle, self.subject)
        assert [one.handle for one in realm.list_by_subject("check-lives")] == [self.handle]


class Revocations(Check):
    """Who was logged out stays out, whichever way it was done; who was not stays in."""

    def initialise(self, site: Site) -> None:
        realm = site.client.session.realm("web")
        self.stays = realm.create("check-stays").token
        self.gone = [realm.create("check-gone").token for _ in range(2)]
        self.later = realm.create("check-later")
        realm.revoke(subject="check-gone")

    def manipulate(self, site: Site, turn: int) -> None:
        realm = site.client.session.realm("web")
        assert not any(_is_good(realm, token) for token in self.gone)
        if turn == 1:
            self.gone.append(realm.create("check-gone").token)
            realm.revoke(self.gone[-1])
        else:
            realm.revoke(handle=self.later.session.handle)
            self.gone.append(self.later.token)

    def validate(self, site: Site) -> None:
        realm = site.client.session.realm("web")
        assert _is_good(realm, self.stays)
        assert not any(_is_good(realm, token) for token in self.gone)


class Rotations(Check):
    """The newest token is good; those that privilege changes ended are not."""

    def initialise(self, site: Site) -> None:
        minted = site.client.session.realm("web").create("check-rotates", data={"k": b"kept"})
        self.token, self.handle = minted.token, minted.session.handle
        self.old: list[Token] = []

    def manipulate(self, site: Site, turn: int) -> None:
        minted = site.client.session.realm("web").rotate(self.token, privilege_changed=True)
        self.old.append(self.token)
        self.token = minted.token

    def validate(self, site: Site) -> None:
        realm = site.client.session.realm("web")
        found = realm.validate(self.token, data_keys=["k"])
        assert (found.session.handle, found.data["k"].value) == (self.handle, b"kept")
        assert not any(_is_good(realm, token) for token in self.old)


CHECKS = (Sessions, Revocations, Rotations)
