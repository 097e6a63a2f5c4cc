-- Videos are also known by features, which cropping, turning and framing do not change. Those of before have none.

ALTER TABLE fingerprints
    ADD COLUMN features bytea,
    ADD COLUMN feature_keys integer[] NOT NULL DEFAULT '{}';
ALTER TABLE full_fingerprints ADD COLUMN features bytea;
CREATE INDEX fingerprints_feature_keys ON fingerprints USING gin (feature_keys) WITH (fastupdate = off);
-- The same by their features. A video that shares fewer than four keys is left out: such are shared by chance.
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
    ) found GROUP BY found.submission_id HAVING count(*) >= 4
$$;
