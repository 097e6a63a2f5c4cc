"""SQL on the nonces of signed requests, and on what admins did."""

from sqlalchemy import text

from app.db import execute

# Each insert also deletes some old nonces. It does not wait for another one that is deleting the same.
_USE_NONCE = text("""
    WITH old AS (
        DELETE FROM nonces WHERE (hotkey, nonce) IN (
            SELECT hotkey, nonce FROM nonces WHERE used_at < now() - make_interval(secs => :seconds)
            LIMIT 100 FOR UPDATE SKIP LOCKED)
    )
    INSERT INTO nonces (hotkey, nonce) VALUES (:hotkey, :nonce) ON CONFLICT DO NOTHING
""")
_RECORD_ACTION = text("""
    INSERT INTO admin_actions (done_by, action, subject) VALUES (:done_by, :action, :subject)
""")


def use_nonce(hotkey: str, nonce: int, seconds: float) -> bool:
    """Remember the nonce for at least `seconds`; False if it was used before."""
    return bool(execute(_USE_NONCE, hotkey=hotkey, nonce=nonce, seconds=seconds))


def record_action(done_by: str, action: str, subject: str) -> None:
    """Record what an admin did. Rows of this log are never changed."""
    execute(_RECORD_ACTION, done_by=done_by, action=action, subject=subject[:200])
