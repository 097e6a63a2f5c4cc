-- Uploads in parts.
CREATE TABLE multipart_uploads (
    video_key   text PRIMARY KEY REFERENCES uploads (video_key) ON DELETE CASCADE,
    upload_id   text NOT NULL CHECK (char_length(upload_id) BETWEEN 1 AND 2000),
    part_bytes  integer NOT NULL CHECK (part_bytes > 0),
    state       text NOT NULL DEFAULT 'OPEN' CHECK (state IN ('OPEN', 'COMPLETED', 'ABORTED'))
);
CREATE INDEX multipart_uploads_open ON multipart_uploads (video_key) WHERE state = 'OPEN';
