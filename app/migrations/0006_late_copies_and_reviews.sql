-- Copies that are found late are corrected, whoever was evaluated first. Of fingerprints that are known so far only
-- the short form was kept: what copies those, and was scored before, goes up for review.

ALTER TABLE fingerprints
    ADD COLUMN demoted boolean NOT NULL DEFAULT false,
    ADD COLUMN only_prompt text REFERENCES prompts (id);
-- the one of two parameters stays for workers of the release before
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
CREATE TABLE full_fingerprints (
    submission_id  bigint PRIMARY KEY REFERENCES fingerprints (submission_id),
    seconds        real[] NOT NULL,
    hashes         bytea NOT NULL CHECK (octet_length(hashes) = 32 * cardinality(seconds)),
    -- those of the mirror image
    mirrored       bytea NOT NULL CHECK (octet_length(mirrored) = 32 * cardinality(seconds)),
    -- the quality before duplicates
    quality_score  double precision NOT NULL CHECK (quality_score BETWEEN 0 AND 1)
);
DROP INDEX submissions_open;
CREATE INDEX submissions_open ON submissions (cycle_id, id) WHERE status IN ('PENDING', 'EVALUATING');
DROP INDEX submissions_cycle;
CREATE INDEX submissions_cycle ON submissions (cycle_id, id);

-- What a single video alone can bring about ends in a review, and a review has an end. The time for those that are
-- open counts from now.
ALTER TABLE submissions
    ADD COLUMN suspect_attempts integer NOT NULL DEFAULT 0 CHECK (suspect_attempts >= 0),
    ADD COLUMN changes integer NOT NULL DEFAULT 0 CHECK (changes >= 0),
    ADD COLUMN demoted boolean NOT NULL DEFAULT false,
    ADD COLUMN held_at timestamptz CONSTRAINT submissions_held CHECK (
        held_at IS NULL OR status = 'PENDING' AND cycle_id IS NULL);
DROP INDEX submissions_pending;
CREATE INDEX submissions_pending ON submissions (not_before, id) WHERE status = 'PENDING' AND held_at IS NULL;
DROP INDEX submissions_waiting;
CREATE INDEX submissions_waiting ON submissions (id) WHERE cycle_id IS NULL AND held_at IS NULL;
ALTER TABLE evaluations
    DROP CONSTRAINT evaluations_evaluated_by_check,
    ADD CONSTRAINT evaluations_evaluated_by_check CHECK (evaluated_by IN ('worker', 'evaluator', 'person'));
ALTER TABLE reviews
    DROP CONSTRAINT reviews_submission_id_fkey,
    ADD CONSTRAINT reviews_submission_id_fkey FOREIGN KEY (submission_id) REFERENCES submissions (id),
    ADD COLUMN state text NOT NULL DEFAULT 'OPEN' CHECK (state IN ('OPEN', 'ACCEPTED', 'REJECTED', 'JUDGED_AGAIN')),
    ADD COLUMN waits_since timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN closed_at timestamptz,
    ADD COLUMN decided_by text CHECK (char_length(decided_by) BETWEEN 1 AND 200),
    ADD COLUMN decision_reason text CHECK (char_length(decision_reason) BETWEEN 1 AND 2000),
    ADD CHECK ((state = 'OPEN') = (closed_at IS NULL)),
    ADD CHECK ((closed_at IS NULL) = (decided_by IS NULL)),
    ADD CHECK ((closed_at IS NULL) = (decision_reason IS NULL));
CREATE INDEX reviews_open ON reviews (waits_since) WHERE state = 'OPEN';
CREATE TABLE suspect_attempts (
    miner_hotkey  text NOT NULL,
    day           date NOT NULL,
    n             integer NOT NULL CHECK (n > 0),
    PRIMARY KEY (miner_hotkey, day)
);
