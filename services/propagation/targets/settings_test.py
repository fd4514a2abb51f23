"""What a target's configuration may say, and the sentence for what it may not."""

from urllib.parse import urlsplit

import pytest

from services.propagation.targets.settings import TargetInvalid, TargetSettings, origin_of, settings_of
from wellspring.config.v1 import propagation_pb2, server_pb2


def test_settings_say_what_is_wrong(tmp_path):
    def problem(**given):
        with pytest.raises(TargetInvalid) as caught:
            settings_of([propagation_pb2.Target(**({"origin": "http://h"} | given))])
        return str(caught.value)

    assert "gopher" in problem(origin="gopher://h")
    assert "http://h" in problem(authorization_file=str(tmp_path / "none"))
    (tmp_path / "evil").write_text("a\r\nX: y")
    assert "no header may hold" in problem(authorization_file=str(tmp_path / "evil"))
    (tmp_path / "empty").write_text("")
    assert "is empty" in problem(authorization_file=str(tmp_path / "empty"))
    assert "no header may hold" in problem(user_agent="a\nb")
    twice = [propagation_pb2.Target(origin="http://h"), propagation_pb2.Target(origin="HTTP://H:80")]
    with pytest.raises(TargetInvalid, match="twice"):
        settings_of(twice)
    tls = server_pb2.ClientTls(ca_file=str(tmp_path / "none"))
    with pytest.raises(TargetInvalid, match="TLS files"):
        TargetSettings("https://h:443", tls=tls).ssl_context()
    assert urlsplit(origin_of("http://[::1]/x")).hostname == "::1"
