-- Results can be corrected: what is decided later is a row of its own, and counts in the cycle if that is not
-- completed yet, else in the next that completes.

ALTER TABLE cycles ADD COLUMN last_correction_id bigint;

CREATE TABLE corrections (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    submission_id    bigint NOT NULL REFERENCES evaluations (submission_id),
    kind             text NOT NULL CHECK (kind IN ('late_copy', 'review', 'appeal', 'takedown', 'operator')),
    status           text NOT NULL,
    final_score      double precision NOT NULL CHECK (final_score >= 0 AND final_score <= 1),
    -- what it changes in the effective result before: in units of 0.0001, and in accepted submissions
    points_change    integer NOT NULL CHECK (points_change BETWEEN -10000 AND 10000),
    accepted_change  integer NOT NULL CHECK (accepted_change BETWEEN -1 AND 1),
    reason           text NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 2000),
    -- 'system', or the name of a person or of an appeal
    decided_by       text NOT NULL CHECK (char_length(decided_by) BETWEEN 1 AND 200),
    decided_at       timestamptz NOT NULL DEFAULT now(),
    evidence         jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(evidence) = 'object'),
    -- the submission's cycle, if it was in one. Late: that cycle was completed, so the change counts in the
    -- next that completes; else in the submission's own
    cycle_id         bigint REFERENCES cycles (id),
    is_late          boolean NOT NULL,
    CHECK (status = 'SCORED' OR status = 'REJECTED' AND final_score = 0),
    CHECK (NOT is_late OR cycle_id IS NOT NULL)
);
CREATE INDEX corrections_submission ON corrections (submission_id, id);
CREATE INDEX corrections_cycle ON corrections (cycle_id) WHERE NOT is_late;
CREATE INDEX corrections_late ON corrections (id) WHERE is_late;
CREATE TRIGGER corrections_immutable BEFORE UPDATE OR DELETE ON corrections
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

ALTER TABLE miner_scores
    ADD COLUMN adjustment numeric NOT NULL DEFAULT 0,
    DROP CONSTRAINT miner_scores_total_submissions_check,
    ADD CONSTRAINT miner_scores_total_submissions_check CHECK (total_submissions >= 0);
CREATE INDEX miner_scores_adjusted ON miner_scores (miner_hotkey) WHERE adjustment <> 0;
