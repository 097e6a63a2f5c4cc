-- Miners appeal against results, operators correct them, and videos are taken down.

ALTER TABLE submissions
    DROP CONSTRAINT submissions_check1,
    ADD CONSTRAINT submissions_check1
        CHECK (status IN ('SCORED', 'REJECTED') OR (status = 'EVALUATING') = (claim_token IS NOT NULL)),
    DROP CONSTRAINT submissions_check2,
    ADD CONSTRAINT submissions_check2 CHECK ((claim_token IS NULL) = (lease_expires_at IS NULL));
ALTER TABLE reviews
    DROP CONSTRAINT reviews_state_check,
    ADD CONSTRAINT reviews_state_check CHECK (state IN ('OPEN', 'ACCEPTED', 'REJECTED', 'JUDGED_AGAIN', 'UPHELD'));
CREATE INDEX reviews_state ON reviews (state, opened_at, submission_id);
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
CREATE INDEX appeals_open ON appeals (submission_id) WHERE state = 'OPEN';
CREATE INDEX appeals_miner ON appeals (miner_hotkey, appealed_at);
CREATE INDEX appeals_decided ON appeals (decided_at, state) WHERE decided_at IS NOT NULL;
CREATE TRIGGER appeals_decided_once BEFORE UPDATE ON appeals FOR EACH ROW WHEN (OLD.decided_at IS NOT NULL)
    EXECUTE FUNCTION forbid_change();

CREATE TABLE takedowns (
    submission_id      bigint PRIMARY KEY REFERENCES submissions (id),
    taken_down_at      timestamptz NOT NULL DEFAULT now(),
    -- when the object in storage is to be deleted; null: never again
    delete_at          timestamptz DEFAULT now(),
    object_deleted_at  timestamptz
);
CREATE INDEX takedowns_due ON takedowns (delete_at) WHERE delete_at IS NOT NULL;
