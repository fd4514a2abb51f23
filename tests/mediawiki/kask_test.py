"""MediaWiki itself, with its sessions in the session service: login, edit, logout, expiry, revocation, a crash."""

import contextlib
import json
import time

import grpc
import pytest

from tests.mediawiki.wiki import CREDENTIAL, Browser, Front, files, session_settings
from tests.system.served import Served
from tools.dev.servers.mediawiki import MediaWiki
from tools.dev.servers.ports import free_port
from wellspring.session.v1 import session_admin_pb2 as admin_pb
from wellspring.session.v1 import session_admin_pb2_grpc, session_pb2_grpc
from wellspring.session.v1 import session_pb2 as pb

TTL_S = 3600
PATIENCE_S = 120


class Site:
    """A wiki, the session service that it uses, and ways to ask the latter past the wiki."""

    def __init__(self, folder, stack):
        self.folder = folder
        credential = folder / "credential"
        credential.write_text(f"{CREDENTIAL}\n")
        credential.chmod(0o600)
        port = free_port()
        caller = {"identity": "credential:wiki", "credential_file": str(credential)}
        self.service = Served(
            folder / "session",
            "session",
            "grpcio",
            {
                "keyring_file": str(folder / "keyring.json"),
                "create_keyring": True,
                "realms": [{"name": "wiki", "kind": "opaque", "ttl": f"{TTL_S}s"}],
                "kask": {"listen": [f"127.0.0.1:{port}"], "realm": "wiki", "callers": [caller]},
                "telemetry": {"log": {"level": "debug", "calls": "all"}},
                "audit": {"file": str(folder / "session" / "audit.jsonl")},
            },
        )
        stack.callback(self.service.kill)
        self.service.start()
        settings = session_settings(f"http://127.0.0.1:{port}/sessions/v1/", TTL_S)
        self.wiki = stack.enter_context(MediaWiki(settings))
        self.front = Front(port, self.wiki.database)
        channel = stack.enter_context(grpc.insecure_channel(self.service.address))
        self.sessions = session_pb2_grpc.SessionsStub(channel)
        self.admin = session_admin_pb2_grpc.SessionAdminStub(channel)

    def browser(self, *, logged_in=True):
        browser = Browser(self.wiki)
        if logged_in:
            assert browser.log_in() == "PASS"
        return browser

    def set_ttl(self, seconds):
        realm = self.admin.GetRealm(admin_pb.GetRealmRequest(name="wiki"), wait_for_ready=True, timeout=PATIENCE_S)
        realm.ttl.seconds = seconds
        self.admin.UpdateRealm(admin_pb.UpdateRealmRequest(realm=realm, update_mask={"paths": ["ttl"]}))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("site"), stack)


def test_SES_05_a_login_is_a_new_session_and_the_old_key_is_not_used_again(site):
    browser = site.browser(logged_in=False)
    browser.token("login")
    before = browser.session
    status, text = site.front.ask("GET", before)
    assert status == 200 and text.startswith(b"JSON.")
    assert browser.log_in() == "PASS" and browser.user == "Editor"
    after = browser.session
    assert after and after != before
    assert site.admin.GetUsage(admin_pb.GetUsageRequest(realm="wiki")).sessions >= 1
    assert site.front.ask("GET", before)[0] == 404 and site.front.ask("POST", before, b"fixed")[0] == 409
    status, text = site.front.ask("GET", after)
    assert status == 200 and b"wsUserID" in text
    # What the wiki itself keeps has none of it.
    assert json.loads(text.split(b".", 2)[2])


def test_a_logged_in_user_edits_and_is_shown_as_such(site):
    browser = site.browser()
    assert browser.edit("Edited", "first") == "Success" and browser.edit("Edited", "second") == "Success"
    status, page = browser.get("/index.php?title=Edited")
    assert status == 200 and "second" in page and '"wgUserName":"Editor"' in page
    stranger = site.browser(logged_in=False)
    assert stranger.edit("Edited", "third") == "assertuserfailed" and stranger.user == ""


def test_after_a_logout_the_session_is_over_also_for_who_kept_its_cookie(site):
    browser, thief = site.browser(), site.browser()
    stolen = browser.session
    thief.set_session(stolen)
    assert thief.user == "Editor"
    browser.log_out()
    assert browser.user == "" and site.front.ask("GET", stolen)[0] == 404
    thief.set_session(stolen)
    assert thief.user == "" and thief.edit("Stolen", "x") == "assertuserfailed"
    assert site.front.ask("POST", stolen, b"JSON..{}")[0] == 409
    assert browser.log_in() == "PASS" and browser.user == "Editor"


def test_a_session_that_is_revoked_is_over_with_the_next_request(site):
    one, two = site.browser(), site.browser()
    assert site.front.ask("DELETE", one.session)[0] == 204
    assert one.user == "" and two.user == "Editor"
    # All of the realm at once.
    site.sessions.Revoke(pb.RevokeRequest(realm="wiki", whole_realm=True), wait_for_ready=True, timeout=PATIENCE_S)
    assert two.user == "" and two.edit("Revoked", "x") == "assertuserfailed"
    for browser in (one, two):
        assert browser.log_in() == "PASS" and browser.user == "Editor"


def test_a_session_ends_when_its_time_is_over(site):
    browser = site.browser()
    site.set_ttl(1)
    try:
        end = time.monotonic() + PATIENCE_S
        while browser.user == "Editor":
            assert time.monotonic() < end
    finally:
        site.set_ttl(TTL_S)
    assert browser.edit("Expired", "x") == "assertuserfailed"
    assert browser.log_in() == "PASS" and browser.user == "Editor"


def test_sessions_outlive_a_crash_of_the_service_and_the_wiki_its_absence(site):
    browser, unlucky = site.browser(), site.browser()
    token = browser.token("csrf")
    site.service.kill()
    # The wiki is read all the same; nobody is taken for somebody meanwhile. (Who comes meanwhile is logged out:
    # MediaWiki does not tell a session that it cannot read from one that is over, and takes the cookie back.)
    for reader in (unlucky, site.browser(logged_in=False)):
        status, page = reader.get("/index.php?title=Main_Page")
        assert status == 200 and '"wgUserName":null' in page
    site.service.start()
    # The same session, its secrets included, without another login.
    assert browser.user == "Editor"
    assert browser.edit("After the crash", "still here", token) == "Success"
    site.wiki.restart()
    assert browser.user == "Editor"


def test_SES_03_SES_22_no_session_id_and_no_name_is_in_any_file_of_the_service(site):
    browser = site.browser()
    assert browser.edit("Canary", "x") == "Success"
    session = browser.session
    assert len(session) == 32
    browser.log_out()
    held = site.browser()
    for name, content in files(site.folder / "session").items():
        for canary in (session, held.session, site.wiki.password, "MWSession", "wsUserID", "Editor", CREDENTIAL):
            assert canary.encode() not in content, (name, canary)
