"""Hotkey files as they lie on people's machines."""

import json

import bittensor
import pytest
from bittensor import http_auth

from app.clients.hotkey import Hotkey
from app.clients.wallet import WalletError, open_hotkey

POLKADOT_JS = {
    "encoded": "AAAA",
    "encoding": {"content": ["pkcs8", "sr25519"], "type": ["scrypt", "xsalsa20-poly1305"], "version": "3"},
    "address": "5FpuLq6SK9skb9P975CrRkRz8U234Mbck2mfCVrwBPEratQ5",
    "meta": {"name": "mine"},
}


@pytest.fixture
def file(tmp_path):
    """The hotkey file of the wallet `cold`."""
    wallet = bittensor.Wallet("cold", "hot", str(tmp_path))
    wallet.create_new_hotkey(use_password=False, overwrite=True, suppress=True)
    return tmp_path / "cold" / "hotkeys" / "hot"


@pytest.fixture
def read(file, tmp_path):
    return lambda: Hotkey.from_wallet("cold", "hot", str(tmp_path))


def test_line_ends_of_windows_do_no_harm(file, read):
    address = read().address
    file.write_bytes(file.read_bytes().replace(b",", b",\r\n") + b"\r\n")
    assert read().address == address
    assert len(read().sign_submission(7, "mug", "key", "0" * 64)) == 128


def public_half(content):
    return json.dumps(
        {
            name: value
            for name, value in json.loads(content).items()
            if "ecret" not in name and name != "privateKey"
        }
    ).encode()


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (public_half, "holds its public half only, which cannot sign. Copy"),
        (lambda content: json.dumps(POLKADOT_JS).encode(), "is an export of polkadot.js"),
        (lambda content: json.dumps(POLKADOT_JS, indent=2).encode(), "btcli wallet regen-hotkey"),
        (lambda content: b"\xef\xbb\xbf" + content, "byte order mark. Save it as plain UTF-8"),
        (lambda content: content.decode().encode("utf-16"), "byte order mark. Save it as plain UTF-8"),
        (lambda content: b"\r\n", "is empty"),
        (lambda content: b"[]", "cannot be used"),
        (lambda content: b"nonsense", "cannot be used"),
        (lambda content: content[:100], "cannot be used"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(file, tmp_path, read, spoilt, said):
    file.write_bytes(spoilt(file.read_bytes()))
    for opened in (read, lambda: open_hotkey("cold", "hot", str(tmp_path))):
        with pytest.raises(WalletError, match=said) as raised:
            opened()
        assert str(raised.value).startswith("The hotkey hot of the wallet cold cannot be used: ")


def test_a_key_of_another_kind_is_told(file, read):
    content = json.loads(file.read_bytes())
    file.write_text(json.dumps({"secretPhrase": content["secretPhrase"], "cryptoType": 0}))
    with pytest.raises(WalletError, match="is not of the kind sr25519"):
        read()


def test_a_missing_file_and_a_directory_are_told(file, read):
    file.unlink()
    with pytest.raises(WalletError, match="does not exist"):
        read()
    file.mkdir()
    with pytest.raises(WalletError, match="Is a directory"):
        read()


def test_an_encrypted_file_is_opened_with_the_password_that_btcli_keeps(tmp_path):
    wallet = bittensor.Wallet("cold", "hot", str(tmp_path))
    wallet.create_new_hotkey(use_password=True, hotkey_password="secret-7", overwrite=True, suppress=True)
    wallet.hotkey_file.save_password_to_env("secret-7")
    assert open_hotkey("cold", "hot", str(tmp_path)).ss58_address == wallet.hotkey.ss58_address
    wallet.hotkey_file.save_password_to_env("wrong")
    with pytest.raises(WalletError, match="cannot be used: "):
        open_hotkey("cold", "hot", str(tmp_path))


def test_requests_are_signed_as_the_sdk_expects(read):
    hotkey = read()
    request = {"method": "POST", "path": "/v1/x?a=1", "self_hotkey_ss58": "", "require_receiver": False}
    headers = hotkey.sign_request("POST", "/v1/x?a=1", b"{}")
    assert http_auth.verify(headers, b"{}", **request).hotkey_ss58 == hotkey.address
    with pytest.raises(http_auth.BadSignature):
        http_auth.verify(hotkey.sign_request("POST", "/v1/x?a=1", b"{}"), b"[]", **request)
