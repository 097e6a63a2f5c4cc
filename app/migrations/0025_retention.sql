-- What is kept in storage, and for how long; and the footage of what was taken down unseen.
ALTER TABLE submissions ADD COLUMN video_pruned_at timestamptz;
CREATE TABLE storage_sweeps (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    after_key    text NOT NULL DEFAULT '',
    found        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(found) = 'object'),
    last_error   text CHECK (char_length(last_error) BETWEEN 1 AND 1000)
);
ALTER TABLE takedowns ADD COLUMN recognise_at timestamptz;
CREATE INDEX takedowns_unknown ON takedowns (recognise_at) WHERE recognise_at IS NOT NULL;
