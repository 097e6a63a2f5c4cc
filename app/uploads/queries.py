"""SQL on uploads, whole or in parts."""

from sqlalchemy import text

from app.db import execute, fetch_all, fetch_one
from app.enums import MultipartState
from app.locks import MINER_PRESIGNS
from app.uploads.models import Multipart, StaleMultipart, UploadAdmission

# There is room again when this row is older than an hour: the limit-th newest, if there are so many.
QUOTA_WAIT = """
    (SELECT extract(epoch FROM {moment} + interval '1 hour' - now())::float8 FROM {table}
     WHERE miner_hotkey = :miner_hotkey AND {moment} > now() - interval '1 hour'
     ORDER BY {moment} DESC OFFSET :quota - 1 LIMIT 1)
"""
HAS_METAGRAPH = """
    EXISTS (SELECT FROM chain_state
            WHERE metagraph_netuid = :netuid AND metagraph_snapshot_at IS NOT NULL)
"""
UPLOAD_WAIT = QUOTA_WAIT.format(table="uploads", moment="created_at")

_LOCK_PRESIGNS = text(f"SELECT pg_advisory_xact_lock(hashtextextended(:miner_hotkey, {MINER_PRESIGNS}))")
_GET_UPLOAD_ADMISSION = text(f"""
    SELECT {HAS_METAGRAPH} AS has_metagraph,
        EXISTS (SELECT FROM metagraph WHERE hotkey = :miner_hotkey) AS is_registered,
        {UPLOAD_WAIT} AS quota_wait_seconds,
        count(u.video_key) AS open_multiparts,
        extract(epoch FROM min(u.expires_at) - now())::float8 AS multipart_wait_seconds
    FROM multipart_uploads m JOIN uploads u ON u.video_key = m.video_key
    WHERE m.state = 'OPEN' AND u.miner_hotkey = :miner_hotkey
""")
_INSERT_UPLOAD = text("""
    INSERT INTO uploads (video_key, miner_hotkey, content_type, size_bytes, expires_at)
    VALUES (:video_key, :miner_hotkey, :content_type, :size_bytes, now() + make_interval(secs => :expires_in))
""")
_INSERT_MULTIPART = text("""
    INSERT INTO multipart_uploads (video_key, upload_id, part_bytes)
    VALUES (:video_key, :upload_id, :part_bytes)
""")
_FIND_MULTIPART = text("""
    SELECT u.video_key, u.miner_hotkey AS owner, u.content_type, u.size_bytes, m.upload_id, m.part_bytes,
        m.state, extract(epoch FROM u.expires_at - now())::float8 AS seconds_left
    FROM multipart_uploads m JOIN uploads u ON u.video_key = m.video_key WHERE m.video_key = :video_key
""")
_END_MULTIPART = text("""
    UPDATE multipart_uploads SET state = :state WHERE video_key = :video_key AND state = 'OPEN'
""")
_LIST_STALE = text("""
    SELECT m.video_key, m.upload_id
    FROM multipart_uploads m JOIN uploads u ON u.video_key = m.video_key
    WHERE m.state = 'OPEN' AND u.expires_at < now() ORDER BY u.expires_at LIMIT :limit
""")


def lock_presigns(miner_hotkey: str) -> None:
    """Make other requests of this miner wait here until the transaction ends."""
    execute(_LOCK_PRESIGNS, miner_hotkey=miner_hotkey)


def get_upload_admission(miner_hotkey: str, quota: int, netuid: int | None) -> UploadAdmission:
    """Return what is known about `miner_hotkey`, which may begin `quota` uploads an hour."""
    row = fetch_one(
        UploadAdmission, _GET_UPLOAD_ADMISSION, miner_hotkey=miner_hotkey, quota=quota, netuid=netuid
    )
    assert row is not None
    return row


def insert_upload(
    video_key: str, miner_hotkey: str | None, content_type: str, size_bytes: int | None, expires_in: int
) -> None:
    execute(
        _INSERT_UPLOAD,
        video_key=video_key,
        miner_hotkey=miner_hotkey,
        content_type=content_type,
        size_bytes=size_bytes,
        expires_in=expires_in,
    )


def insert_multipart(video_key: str, upload_id: str, part_bytes: int) -> None:
    """Note that the upload `video_key` comes in parts. `upload_id` is the store's name for it."""
    execute(_INSERT_MULTIPART, video_key=video_key, upload_id=upload_id, part_bytes=part_bytes)


def find_multipart(video_key: str) -> Multipart | None:
    return fetch_one(Multipart, _FIND_MULTIPART, video_key=video_key)


def end_multipart(video_key: str, state: MultipartState) -> None:
    """Write what became of an upload in parts, unless that is known already."""
    execute(_END_MULTIPART, video_key=video_key, state=state)


def list_stale(limit: int) -> list[StaleMultipart]:
    """Uploads in parts that are open beyond their time, the oldest first."""
    return fetch_all(StaleMultipart, _LIST_STALE, limit=limit)
