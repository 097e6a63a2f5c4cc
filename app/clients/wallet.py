"""Hotkey files of Bittensor wallets. The coldkey is never asked for.

They are read by `bittensor_core` alone, which is loaded in a hundredth of the time that the SDK takes.
"""

import codecs
import os
from getpass import getpass
from pathlib import Path

from bittensor_core import (
    KeyfileError,
    Keypair,
    decrypt_keyfile_data,
    deserialize_keypair_from_keyfile_data,
    get_password_from_environment,
    keyfile_data_is_encrypted,
)

WALLETS = "~/.bittensor/wallets"
_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class WalletError(Exception):
    """A wallet cannot be used. The message is a sentence that says why."""


def open_hotkey(name: str, hotkey_name: str, path: str | None) -> Keypair:
    """Return the key of a wallet's hotkey file, which can sign.

    `path` is the directory of the wallets, by default that of btcli. The password of an encrypted file comes
    from the environment, as btcli keeps it there, or is asked for. Raises WalletError if there is no such
    wallet or hotkey, or it cannot be read.
    """
    file = Path(path or WALLETS).expanduser() / name / "hotkeys" / hotkey_name
    unusable = f"The hotkey {hotkey_name} of the wallet {name} cannot be used"
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise WalletError(
            f"{unusable}: {file} does not exist. Name the wallet, its hotkey and their directory, or make "
            "the file by btcli wallet new-hotkey."
        ) from None
    except OSError as error:
        raise WalletError(f"{unusable}: {file}: {error.strerror}.") from error
    try:
        if keyfile_data_is_encrypted(content):
            content = decrypt_keyfile_data(content, _password(file))
        key = deserialize_keypair_from_keyfile_data(content)
    except (KeyfileError, ValueError) as error:
        raise WalletError(f"{unusable}: {_advise(file, content) or error}") from error
    try:
        key.sign(b"")
    except ValueError as error:
        raise WalletError(
            f"{unusable}: {file} holds its public half only, which cannot sign. Copy the file from where the "
            "hotkey was made, or write it by btcli wallet regen-hotkey."
        ) from error
    return key


def _password(file: Path) -> str:
    """The password of an encrypted file. Raises ValueError, which says what to do, if nobody can be asked."""
    variable = f"BT_PW_{str(file).replace(os.sep, '_').replace('.', '_').upper()}"
    if known := get_password_from_environment(variable):
        return known
    try:
        given = getpass(f"Password of {file}: ")
    except EOFError:
        given = ""
    if not given:
        raise ValueError(
            f"{file} is encrypted. Give its password at a terminal. A service needs a hotkey without one."
        )
    return given


def _advise(file: Path, content: bytes) -> str | None:
    """What to do about a hotkey file that cannot be read, where we know what it is."""
    if not content.strip():
        return f"{file} is empty. Write it by btcli wallet regen-hotkey."
    if content.startswith(_BYTE_ORDER_MARKS):
        return f"{file} begins with a byte order mark. Save it as plain UTF-8, without one."
    if b'"encoded"' in content and b'"encoding"' in content:
        return (
            f"{file} is an export of polkadot.js or of a mobile wallet, not a hotkey file. Write one out of "
            "the key's mnemonic by btcli wallet regen-hotkey."
        )
    return None
