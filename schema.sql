-- The whole current schema of Kibotos: the source of truth, for PostgreSQL 14 to 18.
--
-- `kibotos db init` loads this file into an empty database. Every change here comes with a file in
-- app/migrations/ that brings an older database to the same catalog; a test compares the two.
--
-- The schema itself refuses wrong data, not only the code: a status without its columns, two active cycles, a
-- second result, or a change of a miner's score or weight after it is written.

CREATE TABLE schema_migrations (
    version     text PRIMARY KEY,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

-- What miners are asked to film.
CREATE TABLE prompts (
    id            text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    category      text NOT NULL
                  CHECK (category IN ('manipulation', 'locomotion', 'navigation', 'household', 'industrial')),
    task          text NOT NULL CHECK (char_length(task) BETWEEN 1 AND 200),
    scenario      text NOT NULL CHECK (char_length(scenario) BETWEEN 1 AND 2000),
    requirements  jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(requirements) = 'object'),
    -- factor on the final score in a miner's total
    weight        double precision NOT NULL DEFAULT 1.0 CHECK (weight >= 0 AND weight <= 1000),
    is_active     boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz
);
CREATE INDEX prompts_active_category ON prompts (category, id) WHERE is_active;

-- How many submissions each prompt has had: the sum over its shards. With one counter row for a prompt, all
-- submissions to it would wait for each other's commit.
CREATE TABLE prompt_submission_counts (
    prompt_id  text NOT NULL REFERENCES prompts (id) ON DELETE CASCADE,
    shard      smallint NOT NULL CHECK (shard BETWEEN 0 AND 15),
    n          bigint NOT NULL CHECK (n > 0),
    PRIMARY KEY (prompt_id, shard)
);

-- Every presigned upload. `miner_hotkey` is null only where signatures are optional (development).
CREATE TABLE uploads (
    video_key     text PRIMARY KEY CHECK (char_length(video_key) <= 200),
    miner_hotkey  text CHECK (char_length(miner_hotkey) BETWEEN 47 AND 48),
    content_type  text NOT NULL CHECK (content_type IN
                  ('video/mp4', 'video/webm', 'video/quicktime', 'video/x-msvideo', 'video/x-matroska')),
    size_bytes    bigint CHECK (size_bytes > 0),
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    CHECK (expires_at > created_at)
);
-- presigns of the last hour
CREATE INDEX uploads_miner_created ON uploads (miner_hotkey, created_at);

-- The uploads among them that come in parts. `upload_id` is the store's name for one, `part_bytes` the size of each part
-- but the last. An open one whose `expires_at` has passed is aborted.
CREATE TABLE multipart_uploads (
    video_key   text PRIMARY KEY REFERENCES uploads (video_key) ON DELETE CASCADE,
    upload_id   text NOT NULL CHECK (char_length(upload_id) BETWEEN 1 AND 2000),
    part_bytes  integer NOT NULL CHECK (part_bytes > 0),
    state       text NOT NULL DEFAULT 'OPEN' CHECK (state IN ('OPEN', 'COMPLETED', 'ABORTED'))
);
CREATE INDEX multipart_uploads_open ON multipart_uploads (video_key) WHERE state = 'OPEN';

-- The nonces of signed requests, kept for a minute, so that no request is accepted twice.
CREATE TABLE nonces (
    hotkey   text NOT NULL CHECK (char_length(hotkey) BETWEEN 47 AND 48),
    nonce    bigint NOT NULL,
    used_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (hotkey, nonce)
);
CREATE INDEX nonces_used_at ON nonces (used_at);

-- Collection cycles. ACTIVE -> EVALUATING -> COMPLETED, never back.
CREATE TABLE cycles (
    id                       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status                   text NOT NULL DEFAULT 'ACTIVE'
                             CHECK (status IN ('ACTIVE', 'EVALUATING', 'COMPLETED')),
    started_at               timestamptz NOT NULL DEFAULT now(),
    ends_at                  timestamptz NOT NULL,
    closed_at                timestamptz,
    completed_at             timestamptz,
    -- the chain's block when the weights were computed, or the last known block if the chain was out of reach
    block_number             bigint CHECK (block_number >= 0),
    block_number_is_current  boolean,
    -- the models that judged the submissions of the completed cycle
    judge_models             text[] NOT NULL DEFAULT '{}',
    -- the last correction when the cycle completed: late corrections up to this one were settled by then
    last_correction_id       bigint,
    CHECK (ends_at > started_at),
    CHECK ((status = 'ACTIVE') = (closed_at IS NULL)),
    CHECK ((status = 'COMPLETED') = (completed_at IS NOT NULL)),
    CHECK (completed_at >= closed_at AND closed_at >= started_at),
    CHECK (block_number IS NULL OR completed_at IS NOT NULL),
    CHECK ((block_number IS NULL) = (block_number_is_current IS NULL))
);
CREATE UNIQUE INDEX cycles_one_active ON cycles (status) WHERE status = 'ACTIVE';
CREATE INDEX cycles_evaluating ON cycles (id) WHERE status = 'EVALUATING';
CREATE INDEX cycles_completed ON cycles (id DESC) WHERE status = 'COMPLETED';

CREATE FUNCTION forbid_cycle_rewind() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF array_position(ARRAY['ACTIVE', 'EVALUATING', 'COMPLETED'], NEW.status)
       NOT IN (array_position(ARRAY['ACTIVE', 'EVALUATING', 'COMPLETED'], OLD.status),
               array_position(ARRAY['ACTIVE', 'EVALUATING', 'COMPLETED'], OLD.status) + 1)
       OR OLD.status = 'COMPLETED' THEN
        RAISE EXCEPTION 'cycle % cannot go from % to %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cycles_forward_only BEFORE UPDATE ON cycles
    FOR EACH ROW EXECUTE FUNCTION forbid_cycle_rewind();

-- One row for each submitted video. PENDING -> EVALUATING -> SCORED | REJECTED. A released or expired lease
-- brings it from EVALUATING back to PENDING. A result is written once; submissions_forward_only enforces that.
-- All checks run at each change of a row. Those of hexadecimal digits count them apart: '^[0-9a-f]{128}$' takes
-- fifteen times as long.
CREATE TABLE submissions (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uuid                uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    -- null: accepted while no cycle was active; it joins the next cycle that starts
    cycle_id            bigint REFERENCES cycles (id),
    prompt_id           text NOT NULL REFERENCES prompts (id),
    -- the prompt's weight when the submission was accepted: a later change does not touch it
    prompt_weight       double precision NOT NULL CHECK (prompt_weight >= 0 AND prompt_weight <= 1000),
    video_key           text NOT NULL UNIQUE REFERENCES uploads (video_key),
    -- the hash assertion: a SHA-256, which the evaluation compares with the bytes
    video_hash          text NOT NULL CHECK (char_length(video_hash) = 64 AND video_hash ~ '^[0-9a-f]*$'),
    miner_uid           integer NOT NULL CHECK (miner_uid BETWEEN 0 AND 65535),
    miner_hotkey        text NOT NULL CHECK (char_length(miner_hotkey) BETWEEN 47 AND 48),
    -- sr25519 over the submission statement, hex; null only where signatures are optional (development)
    signature           text CHECK (char_length(signature) = 128 AND signature ~ '^[0-9a-f]*$'),
    -- what the miner declared of the video
    duration_sec        double precision NOT NULL CHECK (duration_sec >= 0 AND duration_sec <= 86400),
    resolution_width    integer NOT NULL CHECK (resolution_width BETWEEN 1 AND 65536),
    resolution_height   integer NOT NULL CHECK (resolution_height BETWEEN 1 AND 65536),
    fps                 double precision NOT NULL CHECK (fps >= 0 AND fps <= 1000),
    camera_type         text NOT NULL
                        CHECK (camera_type IN ('ego_head', 'ego_chest', 'ego_wrist', 'robot_head', 'robot_wrist')),
    actor_type          text NOT NULL CHECK (actor_type IN ('human', 'robot', 'human_with_robot')),
    camera_intrinsics   jsonb CHECK (jsonb_typeof(camera_intrinsics) = 'object'),
    robot_model         text CHECK (char_length(robot_model) <= 200),
    environment         text CHECK (char_length(environment) <= 200),
    action_description  text CHECK (char_length(action_description) <= 2000),
    task_success        boolean,
    -- the state machine
    status              text NOT NULL DEFAULT 'PENDING'
                        CHECK (status IN ('PENDING', 'EVALUATING', 'SCORED', 'REJECTED')),
    submitted_at        timestamptz NOT NULL DEFAULT now(),
    -- not claimed before this time (back-off after a transient error)
    not_before          timestamptz NOT NULL DEFAULT now(),
    -- claims so far, and those of them that ended in a transient error
    attempts            integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    faults              integer NOT NULL DEFAULT 0 CHECK (faults BETWEEN 0 AND attempts),
    last_fault          text CHECK (char_length(last_fault) <= 1000),
    claim_token         uuid,
    claimed_by          text CHECK (char_length(claimed_by) <= 200),
    lease_expires_at    timestamptz,
    evaluated_at        timestamptz,
    final_score         double precision CHECK (final_score >= 0 AND final_score <= 1),
    -- the prompt's requirements when the submission was accepted; the video is checked against them
    requirements        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(requirements) = 'object'),
    -- attempts that the video alone probably made fail; those of them in which its object changed; and whether
    -- there were so many of the latter that the submission comes after all others
    suspect_attempts    integer NOT NULL DEFAULT 0 CHECK (suspect_attempts >= 0),
    changes             integer NOT NULL DEFAULT 0 CHECK (changes >= 0),
    demoted             boolean NOT NULL DEFAULT false,
    -- held: it is not claimed and in no cycle until a person has decided
    held_at             timestamptz CONSTRAINT submissions_held CHECK (
                            held_at IS NULL OR status = 'PENDING' AND cycle_id IS NULL),
    -- requests to a judge in its whole life, by all evaluators; without those that failed because of the judge
    judge_calls         integer NOT NULL DEFAULT 0 CHECK (judge_calls >= 0),
    -- What the moments that are looked at follow from. Drawn when the video is uploaded already, and told nobody but
    -- its evaluators: a miner must not make a video for it. All alike in submissions closed before migration 0009.
    frame_seed          uuid NOT NULL DEFAULT gen_random_uuid(),
    -- faults for which neither storage nor a judge was to blame; and the machines that lost it, killed or silent
    unexplained_faults  integer NOT NULL DEFAULT 0 CHECK (unexplained_faults >= 0),
    lost_by             text[] NOT NULL DEFAULT '{}',
    -- a cycle waited for it until its deadline: none does so again
    carried_over        boolean NOT NULL DEFAULT false,
    -- What the second statement signs too: the licence, an SPDX id (null: the operator's default terms), and what the
    -- filmed people agreed to, by the SHA-256 of its text, its version and the date.
    licence             text CHECK (licence ~ '^[A-Za-z0-9][A-Za-z0-9.+-]{0,99}$'),
    consent_hash        text CHECK (char_length(consent_hash) = 64 AND consent_hash ~ '^[0-9a-f]*$'),
    consent_version     text CHECK (consent_version ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$'),
    consent_date        date,
    -- it was rejected for so long that its video was deleted
    video_pruned_at     timestamptz,
    CONSTRAINT submissions_consent CHECK (num_nulls(consent_hash, consent_version, consent_date) IN (0, 3)),
    -- SCORED or REJECTED, it is claimed once more if its result is appealed against
    CHECK (status IN ('SCORED', 'REJECTED') OR (status = 'EVALUATING') = (claim_token IS NOT NULL)),
    CHECK ((claim_token IS NULL) = (lease_expires_at IS NULL)),
    CHECK ((status IN ('SCORED', 'REJECTED')) = (final_score IS NOT NULL)),
    CHECK ((status IN ('SCORED', 'REJECTED')) = (evaluated_at IS NOT NULL)),
    CHECK (status <> 'REJECTED' OR final_score = 0)
)
-- A row changes four times within minutes of its insertion, so pages keep room for that, and what is dead is cleared
-- after a fiftieth of the table and not a fifth (bench/load.md)
WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- evaluate/fetch and the reconciler: due submissions, the oldest first
CREATE INDEX submissions_pending ON submissions (not_before, id) WHERE status = 'PENDING' AND held_at IS NULL;
-- The reconciler: expired leases. Not by the time of expiry: so a lease is extended without a change of any index.
CREATE INDEX submissions_evaluating ON submissions (id) WHERE status = 'EVALUATING';
-- whether a cycle has open submissions; carry-over
CREATE INDEX submissions_open ON submissions (cycle_id, id) WHERE status IN ('PENDING', 'EVALUATING');
-- submissions that join a cycle when it starts
CREATE INDEX submissions_waiting ON submissions (id) WHERE cycle_id IS NULL AND held_at IS NULL;
-- scores of a cycle
CREATE INDEX submissions_cycle ON submissions (cycle_id, id);
-- submissions of a hotkey in the last hour
CREATE INDEX submissions_miner_submitted ON submissions (miner_hotkey, submitted_at);
-- equal hash assertions: exact duplicates, and which of them is evaluated first
CREATE INDEX submissions_hash ON submissions (video_hash, id);
-- A miner has one uid, and a prompt has few weights. Without these statistics the planner regards the columns as
-- independent and expects a group for each row. Then it sorts the scores of a cycle on disk instead of hashing
-- them in memory.
CREATE STATISTICS submissions_groups (ndistinct)
    ON miner_uid, miner_hotkey, prompt_id, prompt_weight FROM submissions;

-- The condition of the trigger is the rule, so this function is called only for a forbidden change. A permitted
-- change costs half a microsecond more of the server's time (2.5 instead of 2.0 a row). A function that was called
-- each time would cost twice that.
CREATE FUNCTION forbid_submission_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> NEW.status THEN
        RAISE EXCEPTION 'submission % cannot go from % to %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RAISE EXCEPTION 'submission % is %: its result, and what it counts for, are never changed', OLD.id, OLD.status
        USING ERRCODE = 'check_violation';
END $$;
-- A submission that was evaluated while it waited without a cycle still joins one.
CREATE TRIGGER submissions_forward_only BEFORE UPDATE ON submissions FOR EACH ROW WHEN (
    OLD.status = 'PENDING' AND NEW.status NOT IN ('PENDING', 'EVALUATING')
    OR OLD.status IN ('SCORED', 'REJECTED') AND (
        NEW.status <> OLD.status OR NEW.final_score <> OLD.final_score OR NEW.evaluated_at <> OLD.evaluated_at
        OR NEW.prompt_id <> OLD.prompt_id OR NEW.prompt_weight <> OLD.prompt_weight
        OR NEW.miner_uid <> OLD.miner_uid OR NEW.miner_hotkey <> OLD.miner_hotkey
        OR OLD.cycle_id IS NOT NULL AND NEW.cycle_id IS DISTINCT FROM OLD.cycle_id
    )
) EXECUTE FUNCTION forbid_submission_change();

-- The one result of a submission. Its final score and time stand in the submission's own row.
CREATE TABLE evaluations (
    submission_id     bigint PRIMARY KEY REFERENCES submissions (id),
    technical_score   double precision NOT NULL CHECK (technical_score BETWEEN 0 AND 1),
    relevance_score   double precision NOT NULL CHECK (relevance_score BETWEEN 0 AND 1),
    quality_score     double precision NOT NULL CHECK (quality_score BETWEEN 0 AND 1),
    rejection_reason  text CHECK (char_length(rejection_reason) BETWEEN 1 AND 2000),
    -- 'worker' (a job of ours), 'evaluator' (over HTTP), or 'person' (in a review, of what could not be judged)
    evaluated_by      text NOT NULL CHECK (evaluated_by IN ('worker', 'evaluator', 'person')),
    -- model and version of the prompt template that judged; null where no judge was asked
    judge_model       text CHECK (char_length(judge_model) <= 200),
    prompt_version    text CHECK (char_length(prompt_version) <= 50),
    created_at        timestamptz NOT NULL DEFAULT now(),
    -- the name of the remote evaluator's token; null in results of others, and of before migration 0014
    evaluator         text CHECK (char_length(evaluator) <= 200)
);
-- what an evaluator has delivered
CREATE INDEX evaluations_evaluator ON evaluations (evaluator, created_at) WHERE evaluator IS NOT NULL;

-- The verification report: how the result came about, check by check.
CREATE TABLE verification_reports (
    submission_id  bigint PRIMARY KEY REFERENCES evaluations (submission_id),
    report         jsonb NOT NULL CHECK (jsonb_typeof(report) = 'object'),
    created_at     timestamptz NOT NULL DEFAULT now(),
    -- SHA-256 of the report's text, as the API answers it; null: written before migration 0013
    report_hash    text CHECK (char_length(report_hash) = 64 AND report_hash ~ '^[0-9a-f]*$')
);

-- Decisions about a result after it was written. Rows never change. The last row of a submission is its effective
-- result. Without a row, the evaluation is. Rows are inserted under a lock, so their ids ascend in the order of
-- commits.
CREATE TABLE corrections (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    submission_id    bigint NOT NULL REFERENCES evaluations (submission_id),
    kind             text NOT NULL CHECK (kind IN ('late_copy', 'review', 'appeal', 'takedown', 'operator')),
    status           text NOT NULL,
    final_score      double precision NOT NULL CHECK (final_score >= 0 AND final_score <= 1),
    -- the change of the effective result before it: in units of 0.0001, and in accepted submissions
    points_change    integer NOT NULL CHECK (points_change BETWEEN -10000 AND 10000),
    accepted_change  integer NOT NULL CHECK (accepted_change BETWEEN -1 AND 1),
    reason           text NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 2000),
    -- 'system', or the name of a person
    decided_by       text NOT NULL CHECK (char_length(decided_by) BETWEEN 1 AND 200),
    decided_at       timestamptz NOT NULL DEFAULT now(),
    evidence         jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(evidence) = 'object'),
    -- The submission's cycle, if it was in one. If that cycle was completed, the correction is late, and its change
    -- counts in the cycle that completes next. Otherwise it counts in the submission's own cycle.
    cycle_id         bigint REFERENCES cycles (id),
    is_late          boolean NOT NULL,
    CHECK (status = 'SCORED' OR status = 'REJECTED' AND final_score = 0),
    CHECK (NOT is_late OR cycle_id IS NOT NULL)
);
CREATE INDEX corrections_submission ON corrections (submission_id, id);
CREATE INDEX corrections_cycle ON corrections (cycle_id) WHERE NOT is_late;
CREATE INDEX corrections_late ON corrections (id) WHERE is_late;

-- A completed cycle's scores: one row for each miner (a uid with the hotkey that submitted). Never changed.
CREATE TABLE miner_scores (
    cycle_id              bigint NOT NULL REFERENCES cycles (id),
    miner_uid             integer NOT NULL CHECK (miner_uid BETWEEN 0 AND 65535),
    miner_hotkey          text NOT NULL,
    total_submissions     integer NOT NULL CHECK (total_submissions >= 0),
    accepted_submissions  integer NOT NULL CHECK (accepted_submissions BETWEEN 0 AND total_submissions),
    -- mean final score of the accepted submissions, unweighted; 0 if there are none
    avg_score             double precision NOT NULL CHECK (avg_score BETWEEN 0 AND 1),
    -- sum of final score times prompt weight over the accepted submissions, plus the adjustment
    total_score           double precision NOT NULL CHECK (total_score >= 0),
    -- {category: total_score within it}
    scores_by_category    jsonb NOT NULL CHECK (jsonb_typeof(scores_by_category) = 'object'),
    -- The hotkey held the uid when the cycle was completed, or registration was not checked. Only such a row
    -- counts for weights.
    holds_uid             boolean NOT NULL,
    -- what late corrections of earlier cycles add to the total, or take from it
    adjustment            numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (cycle_id, miner_uid, miner_hotkey)
);
-- the adjustments of a hotkey so far
CREATE INDEX miner_scores_adjusted ON miner_scores (miner_hotkey) WHERE adjustment <> 0;
-- a miner's page: its completed cycles
CREATE INDEX miner_scores_miner ON miner_scores (miner_hotkey, cycle_id);

-- A completed cycle's weights: one row for each uid. Never changed.
CREATE TABLE computed_weights (
    cycle_id    bigint NOT NULL REFERENCES cycles (id),
    miner_uid   integer NOT NULL CHECK (miner_uid BETWEEN 0 AND 65535),
    -- share of the cycle's totals; a cycle's sum is 1
    weight      double precision NOT NULL CHECK (weight > 0 AND weight <= 1),
    -- the share in units of 1/65535 by largest remainder; a cycle's sum is 65535
    weight_u16  integer NOT NULL CHECK (weight_u16 BETWEEN 0 AND 65535),
    PRIMARY KEY (cycle_id, miner_uid)
);

CREATE FUNCTION forbid_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% are never changed once written', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER miner_scores_immutable BEFORE UPDATE OR DELETE ON miner_scores
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER computed_weights_immutable BEFORE UPDATE OR DELETE ON computed_weights
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER evaluations_immutable BEFORE UPDATE OR DELETE ON evaluations
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER corrections_immutable BEFORE UPDATE OR DELETE ON corrections
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

-- A completed cycle's ledger: the root of its lines, and what of them no other table keeps. Only `stored_at` ever
-- changes. Cycles that were completed before migration 0013 have no ledger.
CREATE TABLE ledgers (
    cycle_id           bigint PRIMARY KEY REFERENCES cycles (id),
    -- The ledgers are a chain: each names the one before it. Null: it is the first.
    previous_cycle_id  bigint UNIQUE REFERENCES ledgers (cycle_id),
    -- root of the Merkle tree over the lines, hex; and the number of lines
    root               text NOT NULL CHECK (root ~ '^[0-9a-f]{64}$'),
    lines              bigint NOT NULL CHECK (lines >= 2),
    -- the metagraph that was used: its subnet, its time and its rows [uid, hotkey, validator_permit]; null and empty
    -- if registration was not checked
    netuid             integer CHECK (netuid BETWEEN 0 AND 65535),
    metagraph_at       timestamptz,
    neurons            jsonb NOT NULL CHECK (jsonb_typeof(neurons) = 'array'),
    -- For the proof of a line without all others: the roots of every 512 lines, 32 bytes each, and the ids of the
    -- first submissions in them. Chunks at the end that have no submission have no id.
    chunk_roots        bytea NOT NULL CHECK (octet_length(chunk_roots) % 32 = 0),
    chunk_first_ids    bigint[] NOT NULL,
    -- when its file was put into storage
    stored_at          timestamptz,
    -- when it was last compared with the lines that the other tables give, and what differed; null: nothing
    compared_at        timestamptz,
    difference         text,
    -- how many of its chunks the comparison that is going on has found right; 0: none is going on
    compared_chunks    integer NOT NULL DEFAULT 0 CHECK (compared_chunks >= 0),
    CHECK ((netuid IS NULL) = (metagraph_at IS NULL)),
    CHECK (previous_cycle_id < cycle_id)
);
CREATE UNIQUE INDEX ledgers_one_first ON ledgers ((previous_cycle_id IS NULL)) WHERE previous_cycle_id IS NULL;
CREATE INDEX ledgers_not_stored ON ledgers (cycle_id) WHERE stored_at IS NULL;
CREATE INDEX ledgers_that_differ ON ledgers (cycle_id) WHERE difference IS NOT NULL;
CREATE TRIGGER ledgers_immutable
    BEFORE UPDATE OF cycle_id, previous_cycle_id, root, lines, netuid, metagraph_at, neurons, chunk_roots, chunk_first_ids
    OR DELETE ON ledgers FOR EACH ROW EXECUTE FUNCTION forbid_change();

-- The keys that have signed receipts, by SS58 address. One at most is valid now. A retired one never is again.
CREATE TABLE signing_keys (
    key         text PRIMARY KEY CHECK (char_length(key) BETWEEN 47 AND 48),
    valid_from  timestamptz NOT NULL DEFAULT now(),
    retired_at  timestamptz CHECK (retired_at >= valid_from)
);
CREATE UNIQUE INDEX signing_keys_one_valid ON signing_keys ((retired_at IS NULL)) WHERE retired_at IS NULL;

-- The subnet's registered neurons as of the last snapshot.
CREATE TABLE metagraph (
    uid                integer PRIMARY KEY CHECK (uid BETWEEN 0 AND 65535),
    hotkey             text NOT NULL UNIQUE,
    validator_permit   boolean NOT NULL
);

-- What was last read from the chain: one row.
CREATE TABLE chain_state (
    only_row               boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    block_number           bigint CHECK (block_number >= 0),
    block_seen_at          timestamptz,
    metagraph_netuid       integer CHECK (metagraph_netuid BETWEEN 0 AND 65535),
    metagraph_snapshot_at  timestamptz,
    -- when a snapshot was last attempted, with or without success
    metagraph_tried_at     timestamptz
);

-- Periodic work: when each last ran and how it went. `backup` is that of `kibotos db backup`, which no scheduler runs.
CREATE TABLE ticks (
    name              text PRIMARY KEY,
    last_started_at   timestamptz NOT NULL,
    last_finished_at  timestamptz,
    last_error        text CHECK (char_length(last_error) <= 1000)
);

-- Circuit breakers for what an evaluation needs. If one is tripped (open_until is set), nothing is claimed until
-- that time. After it, one submission at a time is claimed, as a probe.
CREATE TABLE circuit_breakers (
    name                  text PRIMARY KEY CHECK (name IN ('storage', 'vlm')),
    -- since the last success
    consecutive_failures  integer NOT NULL CHECK (consecutive_failures >= 0),
    trips                 integer NOT NULL DEFAULT 0 CHECK (trips >= 0),
    open_until            timestamptz,
    probe_until           timestamptz,
    last_error            text CHECK (char_length(last_error) <= 1000),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    -- the different submissions that failed, up to the number that trips the breaker
    failed_submissions    bigint[] NOT NULL DEFAULT '{}',
    CHECK ((trips > 0) = (open_until IS NOT NULL)),
    CHECK (probe_until IS NULL OR open_until IS NOT NULL)
);

-- Fingerprints of videos that were judged, or rejected for known footage, and whose hash assertion is verified.
-- Their footage counts as known from the time when they were submitted.
CREATE TABLE fingerprints (
    submission_id  bigint PRIMARY KEY REFERENCES evaluations (submission_id),
    miner_hotkey   text NOT NULL,
    -- SHA-256 of the file while the submission is scored: no file is scored twice
    content_hash   text UNIQUE CHECK (content_hash ~ '^[0-9a-f]{64}$'),
    -- n frames: their times, their PDQ hashes (32 bytes each), and bands of those to find them by
    seconds        real[] NOT NULL,
    hashes         bytea NOT NULL CHECK (octet_length(hashes) = 32 * cardinality(seconds)),
    keys           integer[] NOT NULL,
    -- ascends in the order of commits, since rows are inserted under a lock; shows what came after a search
    remembered     bigint NOT NULL UNIQUE GENERATED ALWAYS AS IDENTITY,
    -- counts as submitted after all others, since its object kept changing
    demoted        boolean NOT NULL DEFAULT false,
    -- the judge rejected it: it counts only against videos for this prompt
    only_prompt    text REFERENCES prompts (id),
    -- what it is recognised by however its pictures lie (app/video/features.py), with fewer glances and views than
    -- were compared; and keys to find it by
    features       bytea,
    feature_keys   integer[] NOT NULL DEFAULT '{}'
);
-- Finds the videos that share a band with another. Without the pending list, which each search would read.
CREATE INDEX fingerprints_keys ON fingerprints USING gin (keys) WITH (fastupdate = off);
-- What workers of the release before call while an upgrade is under way. To be dropped by the next release.
CREATE FUNCTION fingerprints_sharing(wanted integer[], at_most integer)
RETURNS TABLE (submission_id bigint, shared bigint) LANGUAGE sql STABLE SET enable_seqscan = off AS $$
    SELECT f.submission_id, count(*)
    FROM (SELECT submission_id, keys FROM fingerprints WHERE keys && wanted LIMIT at_most) f,
         unnest(f.keys) AS own (key) JOIN unnest(wanted) AS given (key) ON own.key = given.key
    GROUP BY f.submission_id
$$;
-- The videos that share keys with a given one: those before it whose footage counts against it, or the scored ones
-- after it. A rare key says more than a common one: a key of a title card says almost nothing. The index is always
-- used, whatever the planner estimates.
CREATE FUNCTION fingerprints_sharing(
    wanted integer[], at_most integer, given_demoted boolean, given_id bigint, given_prompt text, later boolean)
RETURNS TABLE (submission_id bigint, likelihood double precision) LANGUAGE sql STABLE
SET enable_seqscan = off AS $$
    SELECT found.submission_id, sum(1.0 / found.sharing)::double precision
    FROM (
        SELECT hit.submission_id, count(*) OVER (PARTITION BY key) AS sharing
        FROM unnest(wanted) AS key, LATERAL (
            SELECT f.submission_id FROM fingerprints f
            WHERE f.keys @> ARRAY[key] AND CASE
                WHEN later THEN f.content_hash IS NOT NULL
                                AND (f.demoted, f.submission_id) > (given_demoted, given_id)
                ELSE (f.demoted, f.submission_id) < (given_demoted, given_id)
                     AND (f.only_prompt IS NULL OR f.only_prompt = given_prompt) END
            LIMIT at_most) hit
    ) found GROUP BY found.submission_id
$$;
CREATE INDEX fingerprints_feature_keys ON fingerprints USING gin (feature_keys) WITH (fastupdate = off);
-- The same by their features. A video that shares one key alone is left out: such are shared by chance.
CREATE FUNCTION features_sharing(
    wanted integer[], at_most integer, given_demoted boolean, given_id bigint, given_prompt text, later boolean)
RETURNS TABLE (submission_id bigint, likelihood double precision) LANGUAGE sql STABLE
SET enable_seqscan = off AS $$
    SELECT found.submission_id, sum(1.0 / found.sharing)::double precision
    FROM (
        SELECT hit.submission_id, count(*) OVER (PARTITION BY key) AS sharing
        FROM unnest(wanted) AS key, LATERAL (
            SELECT f.submission_id FROM fingerprints f
            WHERE f.feature_keys @> ARRAY[key] AND CASE
                WHEN later THEN f.content_hash IS NOT NULL
                                AND (f.demoted, f.submission_id) > (given_demoted, given_id)
                ELSE (f.demoted, f.submission_id) < (given_demoted, given_id)
                     AND (f.only_prompt IS NULL OR f.only_prompt = given_prompt) END
            LIMIT at_most) hit
    ) found GROUP BY found.submission_id HAVING count(*) >= 2
$$;
-- a miner's own latest
CREATE INDEX fingerprints_miner ON fingerprints (miner_hotkey, submission_id);
-- those of its own that count as submitted after all others
CREATE INDEX fingerprints_demoted ON fingerprints (miner_hotkey, submission_id) WHERE demoted;
-- The full fingerprint of a scored video, kept while a submission is open that came before it. If that one shows
-- the same footage, the video is compared again.
CREATE TABLE full_fingerprints (
    submission_id  bigint PRIMARY KEY REFERENCES fingerprints (submission_id),
    seconds        real[] NOT NULL,
    hashes         bytea NOT NULL CHECK (octet_length(hashes) = 32 * cardinality(seconds)),
    -- those of the mirror image
    mirrored       bytea NOT NULL CHECK (octet_length(mirrored) = 32 * cardinality(seconds)),
    -- the quality before duplicates
    quality_score  double precision NOT NULL CHECK (quality_score BETWEEN 0 AND 1),
    -- all features that were compared
    features       bytea
);

-- Submissions that a person should look at, with the reason and the decision.
CREATE TABLE reviews (
    submission_id    bigint PRIMARY KEY REFERENCES submissions (id),
    reason           text NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 2000),
    opened_at        timestamptz NOT NULL DEFAULT now(),
    -- REJECTED also if the system closed the review and found nothing in the miner's favour
    state            text NOT NULL DEFAULT 'OPEN'
                     CHECK (state IN ('OPEN', 'ACCEPTED', 'REJECTED', 'JUDGED_AGAIN', 'UPHELD')),
    -- the time that a person has for the decision starts here
    waits_since      timestamptz NOT NULL DEFAULT now(),
    closed_at        timestamptz,
    decided_by       text CHECK (char_length(decided_by) BETWEEN 1 AND 200),
    decision_reason  text CHECK (char_length(decision_reason) BETWEEN 1 AND 2000),
    -- what could not be evaluated was tried anew without a person's word, which happens once
    let_go           boolean NOT NULL DEFAULT false,
    CHECK ((state = 'OPEN') = (closed_at IS NULL)),
    CHECK ((closed_at IS NULL) = (decided_by IS NULL)),
    CHECK ((closed_at IS NULL) = (decision_reason IS NULL))
);
CREATE INDEX reviews_open ON reviews (waits_since) WHERE state = 'OPEN';
-- reviews of one state, the latest first
CREATE INDEX reviews_state ON reviews (state, opened_at, submission_id);

-- Miners' appeals against results: at most one for a submission. While an appeal is OPEN, its submission is claimed
-- and evaluated once more. What that finds stands here, beside the first evaluation.
CREATE TABLE appeals (
    submission_id     bigint PRIMARY KEY REFERENCES evaluations (submission_id),
    miner_hotkey      text NOT NULL,
    -- written by the miner: never shown to the judge
    reason            text NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 1000),
    -- sr25519 over the appeal statement, hex; null only where signatures are optional (development)
    signature         text CHECK (signature ~ '^[0-9a-f]{128}$'),
    appealed_at       timestamptz NOT NULL DEFAULT now(),
    -- IN_REVIEW: a person decides. CLOSED: the video was taken down before a decision.
    state             text NOT NULL DEFAULT 'OPEN'
                      CHECK (state IN ('OPEN', 'IN_REVIEW', 'UPHELD', 'OVERTURNED', 'CLOSED')),
    -- the effective result that it is against
    against_status    text NOT NULL,
    against_score     double precision NOT NULL CHECK (against_score BETWEEN 0 AND 1),
    -- what the moments that the new evaluation looks at follow from
    frame_seed        uuid NOT NULL DEFAULT gen_random_uuid(),
    -- claims before the appeal
    attempts_before   integer NOT NULL CHECK (attempts_before >= 0),
    -- the new evaluation: all null until it is there
    status            text,
    final_score       double precision CHECK (final_score BETWEEN 0 AND 1),
    technical_score   double precision CHECK (technical_score BETWEEN 0 AND 1),
    relevance_score   double precision CHECK (relevance_score BETWEEN 0 AND 1),
    quality_score     double precision CHECK (quality_score BETWEEN 0 AND 1),
    rejection_reason  text CHECK (char_length(rejection_reason) BETWEEN 1 AND 2000),
    evaluated_by      text CHECK (evaluated_by = 'worker' OR evaluated_by = 'evaluator'),
    judge_model       text CHECK (char_length(judge_model) <= 200),
    prompt_version    text CHECK (char_length(prompt_version) <= 50),
    report            jsonb CHECK (jsonb_typeof(report) = 'object'),
    evaluated_at      timestamptz,
    decided_at        timestamptz,
    decided_by        text CHECK (char_length(decided_by) BETWEEN 1 AND 200),
    decision_reason   text CHECK (char_length(decision_reason) BETWEEN 1 AND 2000),
    CHECK (num_nulls(status, final_score, technical_score, relevance_score, quality_score, evaluated_by, report,
                     evaluated_at) IN (0, 8)),
    CHECK (status = 'SCORED' OR status = 'REJECTED' AND final_score = 0),
    CHECK ((state IN ('OPEN', 'IN_REVIEW')) = (decided_at IS NULL)),
    CHECK (num_nulls(decided_at, decided_by, decision_reason) IN (0, 3))
);
-- those to be evaluated
CREATE INDEX appeals_open ON appeals (submission_id) WHERE state = 'OPEN';
-- appeals of a hotkey in the last day
CREATE INDEX appeals_miner ON appeals (miner_hotkey, appealed_at);
-- the overturn rate
CREATE INDEX appeals_decided ON appeals (decided_at, state) WHERE decided_at IS NOT NULL;
CREATE TRIGGER appeals_decided_once BEFORE UPDATE ON appeals FOR EACH ROW WHEN (OLD.decided_at IS NOT NULL)
    EXECUTE FUNCTION forbid_change();

-- Tombstones: submissions whose video was taken down. Hash and fingerprints stay, so that it cannot come back.
CREATE TABLE takedowns (
    submission_id      bigint PRIMARY KEY REFERENCES submissions (id),
    taken_down_at      timestamptz NOT NULL DEFAULT now(),
    -- when the object in storage is to be deleted; null: never again
    delete_at          timestamptz DEFAULT now(),
    object_deleted_at  timestamptz,
    -- who asked: its miner, or the named admin
    by_miner           boolean NOT NULL DEFAULT false,
    taken_down_by      text NOT NULL DEFAULT 'an operator' CHECK (char_length(taken_down_by) BETWEEN 1 AND 200),
    reason             text NOT NULL DEFAULT 'Not recorded.' CHECK (char_length(reason) BETWEEN 1 AND 2000),
    evidence           jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(evidence) = 'object'),
    -- sr25519 by the miner over the takedown statement, hex; null for an admin's, and in development
    signature          text CHECK (signature ~ '^[0-9a-f]{128}$'),
    -- when somebody is to look at the video, so that its footage is remembered; null: it is, or cannot be
    recognise_at       timestamptz
);
CREATE INDEX takedowns_unknown ON takedowns (recognise_at) WHERE recognise_at IS NOT NULL;
CREATE INDEX takedowns_due ON takedowns (delete_at) WHERE delete_at IS NOT NULL;

-- Suspect attempts, which a video alone probably made fail, by miner and UTC day.
CREATE TABLE suspect_attempts (
    miner_hotkey  text NOT NULL,
    day           date NOT NULL,
    n             integer NOT NULL CHECK (n > 0),
    PRIMARY KEY (miner_hotkey, day)
);

-- The judge's valid answers by question, so that the same frames are not paid for twice.
CREATE TABLE judge_answers (
    -- SHA-256 over model, prompt version, prompt, frames and their order
    cache_key       text PRIMARY KEY CHECK (cache_key ~ '^[0-9a-f]{64}$'),
    model           text NOT NULL,
    prompt_version  text NOT NULL,
    answer          jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- What the servers of judges have refused, so that each is asked in a form that it accepts.
CREATE TABLE judge_habits (
    -- without its password
    endpoint    text NOT NULL,
    model       text NOT NULL,
    habits      jsonb NOT NULL CHECK (jsonb_typeof(habits) = 'object'),
    learned_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (endpoint, model)
);

-- What the judge used, by UTC day and model.
CREATE TABLE judge_usage (
    day                date NOT NULL,
    model              text NOT NULL,
    calls              bigint NOT NULL CHECK (calls > 0),
    prompt_tokens      bigint NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens  bigint NOT NULL CHECK (completion_tokens >= 0),
    cost_usd           double precision NOT NULL DEFAULT 0 CHECK (cost_usd >= 0),
    PRIMARY KEY (day, model)
);

-- Submissions, and showings of gold films, that have a contact sheet in storage, under sheets/{uuid}.webp.
CREATE TABLE contact_sheets (
    uuid       uuid PRIMARY KEY,
    stored_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX contact_sheets_old ON contact_sheets (stored_at);

-- Nightly walks over the bucket, which delete what is over its time. Done bit by bit: it goes on after that key.
CREATE TABLE storage_sweeps (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    after_key    text NOT NULL DEFAULT '',
    -- by class of objects: how many, how large, what of it was due and what was deleted
    found        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(found) = 'object'),
    -- why it does not go on at the moment
    last_error   text CHECK (char_length(last_error) BETWEEN 1 AND 1000)
);

-- What admins did, by the API or the pages: who (a token's name, or the name given at the login), what, to what.
CREATE TABLE admin_actions (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    done_at  timestamptz NOT NULL DEFAULT now(),
    done_by  text NOT NULL CHECK (char_length(done_by) BETWEEN 1 AND 200),
    action   text NOT NULL CHECK (char_length(action) BETWEEN 1 AND 200),
    subject  text NOT NULL CHECK (char_length(subject) <= 200)
);
CREATE TRIGGER admin_actions_immutable BEFORE UPDATE OR DELETE ON admin_actions
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

-- Where events are sent: the endpoint of a miner, for events about his own submissions, or one of an admin, for all
-- events. miner_hotkey is null in an admin's.
CREATE TABLE webhook_endpoints (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uuid              uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    miner_hotkey      text CHECK (char_length(miner_hotkey) BETWEEN 47 AND 48),
    url               text NOT NULL CHECK (char_length(url) BETWEEN 1 AND 500),
    events            text[] NOT NULL CHECK (events <@ ARRAY[
                          'submission.evaluated', 'submission.corrected', 'submission.taken_down', 'appeal.decided',
                          'cycle.completed', 'weights.published']),
    created_at        timestamptz NOT NULL DEFAULT now(),
    secret            bytea NOT NULL CHECK (octet_length(secret) BETWEEN 24 AND 64),
    -- after a rotation it signs too until then
    old_secret        bytea CHECK (octet_length(old_secret) BETWEEN 24 AND 64),
    old_secret_until  timestamptz,
    disabled_at       timestamptz,
    disabled_reason   text CHECK (char_length(disabled_reason) BETWEEN 1 AND 1000),
    -- its deliveries are deleted bit by bit, then this row
    removed_at        timestamptz,
    -- since its last success; it is not called before paused_until
    failures          integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    paused_until      timestamptz,
    -- whether its last answer took long; when it was last called, or will have been: the one called longest ago is next
    is_slow           boolean NOT NULL DEFAULT false,
    called_at         timestamptz,
    CHECK ((old_secret IS NULL) = (old_secret_until IS NULL)),
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);
CREATE INDEX webhook_endpoints_miner ON webhook_endpoints (miner_hotkey) WHERE removed_at IS NULL;

-- An event for an endpoint. The row is written in the transaction that the event tells of, and delivered at least once.
CREATE TABLE webhook_deliveries (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- the id of the message: the same in each attempt
    uuid              uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    endpoint_id       bigint NOT NULL REFERENCES webhook_endpoints (id),
    event             text NOT NULL CHECK (event IN (
                          'submission.evaluated', 'submission.corrected', 'submission.taken_down', 'appeal.decided',
                          'cycle.completed', 'weights.published')),
    -- what the event is about; events about the same are delivered in the order of their ids
    subject           text NOT NULL CHECK (char_length(subject) BETWEEN 1 AND 100),
    data              jsonb NOT NULL CHECK (jsonb_typeof(data) = 'object'),
    created_at        timestamptz NOT NULL DEFAULT now(),
    state             text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'DELIVERED', 'FAILED')),
    not_before        timestamptz NOT NULL DEFAULT now(),
    -- claims in its whole life, and since it was last replayed
    attempts          integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    tries             integer NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND attempts),
    claim_token       uuid,
    lease_expires_at  timestamptz,
    ended_at          timestamptz,
    CHECK ((claim_token IS NULL) = (lease_expires_at IS NULL)),
    CHECK (claim_token IS NULL OR state = 'PENDING'),
    CHECK ((state = 'PENDING') = (ended_at IS NULL))
);
-- what an endpoint is sent next, and whether something earlier about the same waits
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, not_before, id) WHERE state = 'PENDING';
CREATE INDEX webhook_deliveries_subject ON webhook_deliveries (endpoint_id, subject, id) WHERE state = 'PENDING';
CREATE INDEX webhook_deliveries_claimed ON webhook_deliveries (endpoint_id) WHERE claim_token IS NOT NULL;
-- the list of an endpoint's deliveries
CREATE INDEX webhook_deliveries_endpoint ON webhook_deliveries (endpoint_id, id);
CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (endpoint_id, id) WHERE state = 'FAILED';
-- those that are deleted after some days
CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (ended_at) WHERE state <> 'PENDING';

-- What became of each attempt at a delivery.
CREATE TABLE webhook_attempts (
    delivery_id  bigint NOT NULL REFERENCES webhook_deliveries (id) ON DELETE CASCADE,
    number       integer NOT NULL CHECK (number > 0),
    ended_at     timestamptz NOT NULL DEFAULT now(),
    seconds      real NOT NULL CHECK (seconds >= 0),
    -- of the answer, if there was one, and how the answer began: a stranger wrote that
    status       integer CHECK (status BETWEEN 100 AND 999),
    answer       text NOT NULL DEFAULT '' CHECK (char_length(answer) <= 500),
    -- why it failed; null: it did not
    error        text CHECK (char_length(error) BETWEEN 1 AND 500),
    PRIMARY KEY (delivery_id, number)
);

-- Gold films: videos of ours with people's scores. They are mixed in among the submissions, to see whether the judge
-- and the evaluators score them as people did. They are no submissions: nothing that counts or pays reads these tables.
CREATE TABLE gold_films (
    id                     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uuid                   uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    prompt_id              text NOT NULL REFERENCES prompts (id),
    -- of the file that was added
    video_hash             text NOT NULL CHECK (video_hash ~ '^[0-9a-f]{64}$'),
    -- the judge's four scores, by people, and whether they would accept it
    action_match           double precision NOT NULL CHECK (action_match BETWEEN 0 AND 1),
    perspective_correct    double precision NOT NULL CHECK (perspective_correct BETWEEN 0 AND 1),
    demonstration_quality  double precision NOT NULL CHECK (demonstration_quality BETWEEN 0 AND 1),
    training_utility       double precision NOT NULL CHECK (training_utility BETWEEN 0 AND 1),
    relevance_score        double precision NOT NULL CHECK (relevance_score BETWEEN 0 AND 1),
    accepted               boolean NOT NULL,
    scored_by              text NOT NULL CHECK (char_length(scored_by) BETWEEN 1 AND 200),
    added_at               timestamptz NOT NULL DEFAULT now(),
    -- it is shown no more, and its answers count no more
    retired_at             timestamptz
);
CREATE UNIQUE INDEX gold_films_one ON gold_films (prompt_id, video_hash) WHERE retired_at IS NULL;

-- Copies of a gold film: the same pictures in other bytes. An evaluator over HTTP gets the bytes of a copy only once.
CREATE TABLE gold_copies (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    film_id            bigint NOT NULL REFERENCES gold_films (id),
    object_key         text NOT NULL UNIQUE,
    content_type       text NOT NULL,
    video_hash         text NOT NULL CHECK (video_hash ~ '^[0-9a-f]{64}$'),
    duration_sec       double precision NOT NULL,
    resolution_width   integer NOT NULL,
    resolution_height  integer NOT NULL,
    fps                double precision NOT NULL,
    UNIQUE (film_id, video_hash)
);

-- Showings of gold films, with all that a submission shows its evaluator. The ids are drawn from those of submissions,
-- so that they stand among them in the queue.
CREATE TABLE gold_showings (
    id                 bigint PRIMARY KEY,
    uuid               uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    film_id            bigint NOT NULL REFERENCES gold_films (id),
    copy_id            bigint NOT NULL REFERENCES gold_copies (id),
    prompt_id          text NOT NULL REFERENCES prompts (id),
    requirements       jsonb NOT NULL,
    video_key          text NOT NULL UNIQUE,
    video_hash         text NOT NULL,
    -- of a submission of the time, drawn by lot: miner, camera, actor, licence and consent
    miner_uid          integer NOT NULL,
    miner_hotkey       text NOT NULL,
    duration_sec       double precision NOT NULL,
    resolution_width   integer NOT NULL,
    resolution_height  integer NOT NULL,
    fps                double precision NOT NULL,
    camera_type        text NOT NULL,
    actor_type         text NOT NULL,
    frame_seed         uuid NOT NULL DEFAULT gen_random_uuid(),
    submitted_at       timestamptz NOT NULL DEFAULT now(),
    -- how many submissions later the next showing comes follows from this and the rate; told nobody
    draw               double precision NOT NULL DEFAULT random(),
    status             text NOT NULL DEFAULT 'PENDING'
                       CHECK (status IN ('PENDING', 'EVALUATING', 'SCORED', 'REJECTED')),
    not_before         timestamptz NOT NULL DEFAULT now(),
    attempts           integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    faults             integer NOT NULL DEFAULT 0 CHECK (faults BETWEEN 0 AND attempts),
    judge_calls        integer NOT NULL DEFAULT 0 CHECK (judge_calls >= 0),
    claim_token        uuid,
    claimed_by         text CHECK (char_length(claimed_by) <= 200),
    lease_expires_at   timestamptz,
    -- the remote evaluators that have claimed it
    seen_by            text[] NOT NULL DEFAULT '{}',
    -- the answer
    evaluated_at       timestamptz,
    final_score        double precision CHECK (final_score >= 0 AND final_score <= 1),
    technical_score    double precision CHECK (technical_score BETWEEN 0 AND 1),
    relevance_score    double precision CHECK (relevance_score BETWEEN 0 AND 1),
    quality_score      double precision CHECK (quality_score BETWEEN 0 AND 1),
    rejection_reason   text CHECK (char_length(rejection_reason) BETWEEN 1 AND 2000),
    judge_model        text CHECK (char_length(judge_model) <= 200),
    prompt_version     text CHECK (char_length(prompt_version) <= 50),
    -- the name of the remote evaluator's token; null: a worker of ours
    evaluator          text CHECK (char_length(evaluator) <= 200),
    report             jsonb,
    licence            text,
    consent_hash       text,
    consent_version    text,
    consent_date       date,
    CHECK ((status = 'EVALUATING') = (claim_token IS NOT NULL)),
    CHECK ((status = 'EVALUATING') = (lease_expires_at IS NOT NULL)),
    CHECK ((status IN ('SCORED', 'REJECTED')) = (evaluated_at IS NOT NULL)),
    CHECK ((evaluated_at IS NULL) = (relevance_score IS NULL))
);
-- a film is under way once at a time, so no two evaluators get it together
CREATE UNIQUE INDEX gold_showings_open ON gold_showings (film_id) WHERE status IN ('PENDING', 'EVALUATING');
CREATE INDEX gold_showings_pending ON gold_showings (not_before, id) WHERE status = 'PENDING';
CREATE INDEX gold_showings_film ON gold_showings (film_id);
CREATE INDEX gold_showings_copy ON gold_showings (copy_id);
CREATE INDEX gold_showings_answered ON gold_showings (evaluated_at) WHERE evaluated_at IS NOT NULL;

-- Remote evaluators, by the name of their token, whose answers to gold films differed too much from people's. They
-- get no submissions until a person has looked.
CREATE TABLE evaluator_blocks (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    evaluator      text NOT NULL,
    reason         text NOT NULL,
    -- the first of the answers that differed: what it delivered since is in doubt
    doubted_since  timestamptz NOT NULL,
    blocked_at     timestamptz NOT NULL DEFAULT now(),
    allowed_at     timestamptz,
    allowed_by     text CHECK (char_length(allowed_by) BETWEEN 1 AND 200),
    allow_reason   text CHECK (char_length(allow_reason) BETWEEN 1 AND 2000),
    CHECK ((allowed_at IS NULL) = (allowed_by IS NULL)),
    CHECK ((allowed_at IS NULL) = (allow_reason IS NULL))
);
CREATE UNIQUE INDEX evaluator_blocks_one ON evaluator_blocks (evaluator) WHERE allowed_at IS NULL;

-- Cycles that do not complete because their judge is in doubt, until the doubt is gone or a person approves.
CREATE TABLE cycle_holds (
    cycle_id        bigint PRIMARY KEY REFERENCES cycles (id),
    reason          text NOT NULL,
    held_at         timestamptz NOT NULL DEFAULT now(),
    approved_at     timestamptz,
    approved_by     text CHECK (char_length(approved_by) BETWEEN 1 AND 200),
    approve_reason  text CHECK (char_length(approve_reason) BETWEEN 1 AND 2000),
    CHECK ((approved_at IS NULL) = (approved_by IS NULL)),
    CHECK ((approved_at IS NULL) = (approve_reason IS NULL))
);

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
