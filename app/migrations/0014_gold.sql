-- Gold films, what evaluators answered to them, and what follows when they do not answer as people did. From now on a
-- result says which remote evaluator delivered it.

ALTER TABLE evaluations ADD COLUMN evaluator text CHECK (char_length(evaluator) <= 200);
CREATE INDEX evaluations_evaluator ON evaluations (evaluator, created_at) WHERE evaluator IS NOT NULL;

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
    -- of a submission of the time, drawn by lot: miner, camera and actor
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
