-- Copies that are found late are corrected, whoever was evaluated first. Of fingerprints that are known so far only
-- the short form was kept: what copies those, and was scored before, goes up for review.

ALTER TABLE fingerprints
    ADD COLUMN demoted boolean NOT NULL DEFAULT false,
    ADD COLUMN only_prompt text REFERENCES prompts (id);
DROP FUNCTION fingerprints_sharing(integer[], integer);
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
