"""A hub that cannot be reached is told of at once, and asked again later."""

import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import datasets
import pytest
from huggingface_hub import constants

from forgetfilter.data import hub
from forgetfilter.data.containers import open_container
from forgetfilter.errors import ForgetFilterError, ModelError
from forgetfilter.models.sources import find_model


@pytest.fixture
def out_of_reach(monkeypatch):
    """A hub that nobody has forbidden to ask, at a port where nothing listens."""
    for module, name, value in (
        (constants, "HF_HUB_OFFLINE", False),
        (datasets.config, "HF_HUB_OFFLINE", False),
        (constants, "ENDPOINT", "http://127.0.0.1:9"),
        (hub, "_told", False),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("find", [find_model, open_container])
@pytest.mark.usefixtures("out_of_reach")
def test_out_of_reach_is_told_at_once(find):
    began = time.monotonic()
    with pytest.raises(ForgetFilterError, match=r"nobody/nothing: .*the hub cannot be reached, and .*cache does not"):
        find("nobody/nothing")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("find", [find_model, open_container])
def test_a_hub_that_may_not_be_asked_is_not(monkeypatch, find):
    monkeypatch.setattr(hub, "_answers", lambda _: pytest.fail("asked"))
    with pytest.raises(ForgetFilterError, match=r"nobody/nothing: .*HF_HUB_OFFLINE is set"):
        find("nobody/nothing")


@pytest.mark.usefixtures("out_of_reach")
def test_what_is_in_the_cache_needs_no_hub(monkeypatch):
    monkeypatch.setattr("forgetfilter.models.sources.is_cached", lambda *_: True)
    assert find_model("someone/something", "v1").revision == "v1"
    # Libraries go to their caches now, without asking.
    assert constants.HF_HUB_OFFLINE
    assert datasets.config.HF_HUB_OFFLINE


@pytest.mark.usefixtures("out_of_reach")
def test_a_hub_that_answers_again_is_asked_again(monkeypatch):
    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    assert not hub.can_reach_hub()
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert hub.can_reach_hub()
        server.shutdown()
    assert not constants.HF_HUB_OFFLINE
    assert not datasets.config.HF_HUB_OFFLINE


@pytest.mark.usefixtures("out_of_reach")
def test_names_that_cannot_be_on_the_hub():
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        find_model("not a name")
