"""What strangers name leads to the public Internet, or nowhere."""

import shutil
import ssl
import subprocess
import threading
import time
from ipaddress import ip_address

import pytest

from app.clients.http import exchange, read_start
from app.clients.retry import RetryableError
from app.clients.strangers import AddressRefused, Strangers, is_own, is_public
from tests.clients.conftest import drip
from tests.tls import tls_proxy

PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
    172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:a9fe:a9fe ::127.0.0.1 ::8.8.8.8 64:ff9b::7f00:1
    64:ff9b::a9fe:a9fe 64:ff9b::e000:1 64:ff9b:1::808:808 100::1 100:0:0:1::1 2001::1 2001:20::1 2001:db8::1
    2002:7f00:1::1 2002:808:808::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 ff0e::1
    4000::1 ::ffff:0:127.0.0.1
""".split()  # noqa: SIM905
PUBLIC = """
    1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.32.0.1 223.255.255.255 2606:4700::1111 2a00:1450::1
    64:ff9b::808:808
""".split()  # noqa: SIM905


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address):
    assert is_public(ip_address(address))


def finding(*addresses):
    return Strangers(False, lambda host, port: list(addresses))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.org/", "must look like"),
        ("file:///etc/passwd", "must look like"),
        ("gopher://example.org:80/", "must look like"),
        ("//example.org/", "must look like"),
        ("https:///path", "must look like"),
        ("https://[::1", "must look like"),
        ("https://example.org:99999/", "must look like"),
        ("https://example.org:x/", "must look like"),
        ("https://exämple.org/", "ASCII"),
        ("https://example.org/\r\nHost: x", "ASCII"),
        ("https://example.org\\@10.0.0.1/", "ASCII"),
        ("https://me:pass@example.org/", "no user"),
        ("https://example.org/#x", "fragment"),
        ("https://example.org:22/", "port 22 is not permitted"),
        ("https://example.org:0/", "port 0 is not permitted"),
    ],
)
def test_an_url_that_is_no_webhook(url, said):
    with pytest.raises(AddressRefused, match=said):
        finding("8.8.8.8").check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org",
        "http://example.org:8080/a?b=c",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
    ],
)
def test_an_url_that_is_one(url):
    finding("8.8.8.8").check_url(url)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "0", "[::1]",
     "[::ffff:127.0.0.1]", "[fe80::1%25lo]", "[::]"],
)  # fmt: skip
def test_this_machine_by_any_name_the_system_knows(host):
    with pytest.raises(AddressRefused):
        Strangers(False).check_url(f"http://{host}/")


def test_one_private_address_among_public_ones_is_enough():
    with pytest.raises(AddressRefused, match=r"leads to 10\.0\.0\.1"):
        finding("8.8.8.8", "10.0.0.1").check_url("https://example.org/")


def test_the_machines_own_public_address_is_known():
    assert is_own("127.0.0.1", 80)
    assert not is_own("8.8.8.8", 80)


def test_a_name_server_that_never_answers_is_not_waited_for():
    over = threading.Event()
    silent = Strangers(False, lambda host, port: [str(over.wait(60))])
    with pytest.raises(AddressRefused, match="does not answer"):
        silent.look_up("example.org", 443, time.monotonic() + 0.2)
    over.set()


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".org", "a..b"])
def test_a_name_that_is_not_known(host):
    with pytest.raises(AddressRefused, match="not known"):
        Strangers(False).check_url(f"https://{host}/")


def test_the_connection_goes_to_what_was_looked_up_and_the_name_stays(server, deadline, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    port = server.url.rpartition(":")[2]
    asked = []

    def rebinding(host, port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    look_up = Strangers(True, rebinding).look_up
    with exchange("POST", f"http://hook.example:{port}/x", deadline, data=b"1", look_up=look_up) as answer:
        assert read_start(answer, 3) == b"hel"
    assert asked == ["hook.example"]
    assert f"Host: hook.example:{port}" in server.requests[0]


def test_a_name_that_leads_elsewhere_by_now_is_not_connected_to(server, deadline):
    """It was public when it was registered."""
    found = iter([["8.8.8.8"], ["127.0.0.1"]])
    rebinding = Strangers(False, lambda host, port: next(found))
    rebinding.check_url("http://hook.example:8080/")
    look_up = rebinding.look_up
    with (
        pytest.raises(AddressRefused, match=r"leads to 127\.0\.0\.1"),
        exchange("POST", "http://hook.example:8080/", deadline, data=b"1", look_up=look_up),
    ):
        pass
    assert server.requests == []


def test_tls_is_with_the_name_and_not_with_the_address(server, deadline, tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificate")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    names = ["-subj", "/CN=x", "-addext", "subjectAltName=DNS:hook.example"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", key, "-out", certificate]
    subprocess.run(["openssl", "req", "-x509", *kind, *files, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    asked = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    server.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    look_up = Strangers(True, lambda host, port: ["127.0.0.1"]).look_up
    with tls_proxy(context, int(server.url.rpartition(":")[2])) as port:
        with exchange("POST", f"https://hook.example:{port}/", deadline, look_up=look_up) as answer:
            assert answer.status_code == 204
        # the certificate is of another name
        with (
            pytest.raises(RetryableError, match="the connection failed"),
            exchange("POST", f"https://other.example:{port}/", deadline, look_up=look_up),
        ):
            pass
    assert asked == ["hook.example", "other.example"]


def test_the_next_address_is_tried(server, deadline):
    server.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
    port = server.url.rpartition(":")[2]
    look_up = Strangers(True, lambda host, port: ["127.0.0.3", "127.0.0.1"]).look_up
    with exchange("POST", f"http://hook.example:{port}/", deadline, look_up=look_up) as answer:
        assert answer.status_code == 204


def test_nobody_listens(deadline):
    look_up = Strangers(True, lambda host, port: ["127.0.0.1"]).look_up
    with (
        pytest.raises(RetryableError, match="the connection failed"),
        exchange("POST", "http://hook.example:9/", deadline, look_up=look_up),
    ):
        pass


def test_the_start_of_a_body_is_what_has_come(server, deadline):
    server.answers.append(drip(b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nfirst"))
    with exchange("GET", server.url, deadline) as answer:
        assert read_start(answer, 1000).startswith(b"first")


def test_a_start_that_never_comes_is_empty(server):
    server.answers.append([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 60])
    with exchange("GET", server.url, time.monotonic() + 0.5) as answer:
        assert read_start(answer, 1000) == b""
