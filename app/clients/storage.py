"""S3-compatible object storage (AWS, R2, MinIO, SeaweedFS)."""

from app.config import Settings


class Storage:
    def __init__(self, settings: Settings):
        self.settings = settings
