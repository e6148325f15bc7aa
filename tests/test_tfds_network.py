"""TensorFlow Datasets without a network: a clear answer within seconds."""

import threading
import time

import pytest

from jaxinfl.datasets import DatasetUnavailable, download, load_dataset

pytestmark = pytest.mark.usefixtures("no_download")


def check_unavailable(tmp_path, reason):
    start = time.monotonic()
    with pytest.raises(DatasetUnavailable) as raised:
        load_dataset("cifar10", tmp_path)
    assert time.monotonic() - start < 15
    message = str(raised.value)
    assert "cifar10 could not be downloaded" in message
    assert "--preset digits" in message
    assert str(tmp_path / "cifar10" / "3.0.2") in message
    assert reason in message


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.undo()  # the probe really tries ...
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(variable, "http://nosuch.invalid:9")  # ... a host that exists nowhere
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    check_unavailable(tmp_path, "ProxyError")


def test_network_that_swallows_everything(tmp_path, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(download, "_probe", lambda url, seconds: released.wait(30) and None)
    monkeypatch.setattr(download, "PROBE_SECONDS", 0.3)
    check_unavailable(tmp_path, "no answer within 0.3 s")
    released.set()


def test_one_answering_host_is_enough(monkeypatch):
    monkeypatch.setattr(download, "_probe", lambda url, seconds: None if "mirror" in url else "refused")
    urls = ["https://a.invalid/x", "https://a.invalid/y", "https://mirror.invalid/x"]
    assert download.why_unreachable(urls, 1.0) is None
    assert download.why_unreachable(urls[:2], 1.0) == "a.invalid cannot be reached (refused)"
    assert download.why_unreachable(["ftp://a.invalid/x"], 1.0) is None


@pytest.mark.parametrize(("status", "failure"), [(200, None), (403, None), (503, "HTTP status 503")])
def test_probe_tells_a_host_from_a_broken_proxy(monkeypatch, status, failure):
    import requests

    response = requests.Response()
    response.status_code = status
    monkeypatch.setattr(requests, "head", lambda url, **options: response)
    assert download._probe("https://a.invalid/x", 1.0) == failure
