-- Data sets of accepted videos, with all that their building needs.
-- Releases: data sets made of accepted videos, frozen. FILMS: the films of its episodes are made. PARTS: its files are
-- written. Then it is COMPLETE, and its manifest's hash names it.
CREATE TABLE releases (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$'),
    -- what an episode had to be, the formats of the files, and how the films are encoded
    rules            jsonb NOT NULL CHECK (jsonb_typeof(rules) = 'object'),
    formats          text[] NOT NULL CHECK (cardinality(formats) > 0
                                            AND formats <@ ARRAY['lerobot', 'webdataset', 'parquet']),
    recipe           text NOT NULL,
    -- the release that this is the successor of
    predecessor_id   bigint REFERENCES releases (id),
    -- when its episodes were chosen, and by what software
    frozen_at        timestamptz NOT NULL DEFAULT now(),
    software         jsonb NOT NULL CHECK (jsonb_typeof(software) = 'object'),
    -- with those that are left out
    chosen           integer NOT NULL DEFAULT 0 CHECK (chosen >= 0),
    state            text NOT NULL DEFAULT 'FILMS' CHECK (state IN ('FILMS', 'PARTS', 'COMPLETE', 'FAILED')),
    failure          text CHECK (char_length(failure) BETWEEN 1 AND 1000),
    completed_at     timestamptz,
    -- of what is in it, known once it is complete
    manifest_sha256  text CHECK (manifest_sha256 ~ '^[0-9a-f]{64}$'),
    figures          jsonb CHECK (jsonb_typeof(figures) = 'object'),
    card             text CHECK (char_length(card) <= 100000),
    -- the step from one state to the next, as in release_films
    not_before       timestamptz NOT NULL DEFAULT now(),
    attempts         integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    faults           integer NOT NULL DEFAULT 0 CHECK (faults >= 0),
    last_fault       text CHECK (char_length(last_fault) <= 1000),
    claim_token      uuid,
    claimed_by       text CHECK (char_length(claimed_by) <= 200),
    CHECK ((state = 'FAILED') = (failure IS NOT NULL)),
    CHECK (num_nulls(completed_at, manifest_sha256, figures, card) IN (0, 4)),
    CHECK ((state = 'COMPLETE') = (completed_at IS NOT NULL)),
    CHECK (claim_token IS NULL OR state IN ('FILMS', 'PARTS'))
);
CREATE INDEX releases_open ON releases (not_before) WHERE state IN ('FILMS', 'PARTS');
CREATE TRIGGER releases_frozen BEFORE UPDATE OF name, rules, formats, recipe, predecessor_id, frozen_at, software
    ON releases FOR EACH ROW EXECUTE FUNCTION forbid_change();

-- Films: what a release has of a submission's video. Each is made once, of a source by a recipe, and shared by all
-- releases. DELETED: the video was taken down; no such film is made again.
CREATE TABLE release_films (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    submission_id  bigint NOT NULL REFERENCES submissions (id),
    source_sha256  text NOT NULL CHECK (source_sha256 ~ '^[0-9a-f]{64}$'),
    recipe         text NOT NULL,
    state          text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'DONE', 'FAILED', 'DELETED')),
    -- what was made and what was seen in it; null before, and after its deletion
    film           jsonb CHECK (jsonb_typeof(film) = 'object'),
    attributes     jsonb CHECK (jsonb_typeof(attributes) = 'object'),
    -- Nobody claims it before this time: it waits after a fault, or this is the end of the lease of who has it.
    not_before     timestamptz NOT NULL DEFAULT now(),
    -- claims that ended neither in a film nor in a fault of storage; all faults; and what the last one was
    attempts       integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    faults         integer NOT NULL DEFAULT 0 CHECK (faults >= 0),
    last_fault     text CHECK (char_length(last_fault) <= 1000),
    claim_token    uuid,
    claimed_by     text CHECK (char_length(claimed_by) <= 200),
    UNIQUE (source_sha256, recipe),
    CHECK ((state = 'DONE') = (film IS NOT NULL)),
    CHECK ((film IS NULL) = (attributes IS NULL)),
    CHECK (claim_token IS NULL OR state = 'PENDING'),
    CHECK (state <> 'FAILED' OR last_fault IS NOT NULL)
);
CREATE INDEX release_films_due ON release_films (not_before, id) WHERE state = 'PENDING';
CREATE INDEX release_films_submission ON release_films (submission_id);

-- The submissions that were chosen for a release, with what counted then.
CREATE TABLE release_episodes (
    release_id     bigint NOT NULL REFERENCES releases (id),
    submission_id  bigint NOT NULL REFERENCES submissions (id),
    split          text NOT NULL CHECK (split IN ('train', 'validation', 'test')),
    final_score    double precision NOT NULL CHECK (final_score BETWEEN 0 AND 1),
    licence        text NOT NULL CHECK (char_length(licence) BETWEEN 1 AND 100),
    film_id        bigint REFERENCES release_films (id),
    -- its place in the data set, and that of its task among all: known once all films are made
    index          integer CHECK (index >= 0),
    task_index     integer CHECK (task_index >= 0),
    -- why it is not in the data set after all
    left_out       text CHECK (char_length(left_out) BETWEEN 1 AND 1200),
    PRIMARY KEY (release_id, submission_id),
    CHECK (left_out IS NULL OR index IS NULL),
    CHECK ((index IS NULL) = (task_index IS NULL)),
    CHECK (left_out IS NOT NULL OR film_id IS NOT NULL)
);
-- the files are written in this order
CREATE UNIQUE INDEX release_episodes_index ON release_episodes (release_id, index) WHERE index IS NOT NULL;
CREATE INDEX release_episodes_left_out ON release_episodes (release_id, submission_id) WHERE left_out IS NOT NULL;
-- the releases that hold a submission, or a film
CREATE INDEX release_episodes_submission ON release_episodes (submission_id);
CREATE INDEX release_episodes_film ON release_episodes (film_id, release_id);

-- The files of a release, in storage under releases/{name}/{path}. A worker writes one at a time.
CREATE TABLE release_parts (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    release_id   bigint NOT NULL REFERENCES releases (id),
    number       integer NOT NULL CHECK (number >= 0),
    path         text NOT NULL CHECK (char_length(path) BETWEEN 1 AND 300),
    -- what is in it; and whether it names the hashes of others, so that it is written when they are
    part         jsonb NOT NULL CHECK (jsonb_typeof(part) = 'object'),
    is_last      boolean NOT NULL,
    state        text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'DONE', 'FAILED')),
    sha256       text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    bytes        bigint CHECK (bytes >= 0),
    -- it held a film that was taken down
    deleted_at   timestamptz,
    -- as in release_films
    not_before   timestamptz NOT NULL DEFAULT now(),
    attempts     integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    faults       integer NOT NULL DEFAULT 0 CHECK (faults >= 0),
    last_fault   text CHECK (char_length(last_fault) <= 1000),
    claim_token  uuid,
    claimed_by   text CHECK (char_length(claimed_by) <= 200),
    UNIQUE (release_id, number),
    UNIQUE (release_id, path),
    CHECK ((state = 'DONE') = (sha256 IS NOT NULL)),
    CHECK ((sha256 IS NULL) = (bytes IS NULL)),
    CHECK (deleted_at IS NULL OR state = 'DONE'),
    CHECK (claim_token IS NULL OR state = 'PENDING'),
    CHECK (state <> 'FAILED' OR last_fault IS NOT NULL)
);
CREATE INDEX release_parts_due ON release_parts (not_before, id) WHERE state = 'PENDING';
CREATE INDEX release_parts_pending ON release_parts (release_id, is_last) WHERE state = 'PENDING';

-- The split that all films of a miner are in, in each release: it never changes.
CREATE TABLE release_splits (
    miner_hotkey  text PRIMARY KEY CHECK (char_length(miner_hotkey) BETWEEN 47 AND 48),
    split         text NOT NULL CHECK (split IN ('train', 'validation', 'test')),
    -- ascends in the order of assignments
    number        bigint NOT NULL UNIQUE GENERATED ALWAYS AS IDENTITY
);
CREATE TRIGGER release_splits_immutable BEFORE UPDATE OR DELETE ON release_splits
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

-- Footage that two submissions share, as the comparisons of duplicates found it. Written when a release is frozen, for
-- the submissions that it might hold.
CREATE TABLE footage_links (
    submission_id  bigint NOT NULL REFERENCES submissions (id),
    other_id       bigint NOT NULL REFERENCES submissions (id),
    PRIMARY KEY (submission_id, other_id)
);
CREATE INDEX footage_links_other ON footage_links (other_id);
