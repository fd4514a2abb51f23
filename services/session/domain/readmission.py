"""After a whole realm was revoked, everybody comes back at once; they are let in again over a while.

Each subject has a place between 0 and 1 that nobody can predict and that is another one after each revocation; its turn
comes when that share of the realm's window is over. So the share of those let in grows evenly, nobody gains by asking
often, and whoever is refused is told when to come back. Anonymous logins have the place of their request.
"""

from services.session.crypto import pseudonyms
from services.session.crypto.keyring import Keyring
from services.session.domain.errors import Readmission
from services.session.domain.model import ANONYMOUS
from services.session.domain.policy import SECOND
from services.session.domain.realms import Realm


def check_turn(keyring: Keyring, realm: Realm, subject: bytes, request: bytes, now_us: int) -> None:
    """Raises Readmission until the turn of the subject (a pseudonym) has come."""
    window_us, raised_us = realm.policy.readmission_window_us, realm.epoch.raised_us
    if not window_us or not raised_us or now_us >= raised_us + window_us:
        return
    who = request if subject == ANONYMOUS else subject
    turn_us = raised_us + int(pseudonyms.place_in_line(keyring, realm.name, who, raised_us) * window_us)
    if now_us < turn_us:
        what = "all sessions of the realm were revoked; logins are let in again one after the other"
        raise Readmission(what, retry_after_s=max(1.0, (turn_us - now_us) / SECOND))
