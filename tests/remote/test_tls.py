"""Certificates are checked; one of your own can be given."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge import BackendUnavailable, LlamaBridge
from llama_bridge_remote import RemoteBackend

from .servers import Scripted, scripted
from .test_misbehaving import says, talking


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that nobody vouches for, with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl, to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def server(certificate: Path) -> Iterator[Scripted]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with scripted(talking(says("hi", " there")), context) as script:
        yield script


def test_a_certificate_that_nobody_vouches_for_is_refused(server: Scripted) -> None:
    url = server.url.replace("http:", "https:")
    with pytest.raises(BackendUnavailable, match=r"(?i)certificate"):
        LlamaBridge(url, backend=RemoteBackend(api_key="sk-1", timeout=10))
    assert server.heard == [], "the key was not sent"


def test_one_of_your_own_can_be_given(server: Scripted, certificate: Path) -> None:
    url = server.url.replace("http:", "https:")
    context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    with LlamaBridge(url, backend=RemoteBackend(verify=context, timeout=10)) as llama:
        assert llama.generate("x").text == "hi there"
        stream = llama.generate_stream("x")
        next(stream)
        stream.cancel()
        assert stream.result.finish_reason == "cancelled"
        assert llama.generate("x").text == "hi there"
