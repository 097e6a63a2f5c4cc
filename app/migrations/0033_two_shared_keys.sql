-- Words that one picture repeats make no keys any more, so that unrelated videos share far fewer. Two tell something.

CREATE OR REPLACE FUNCTION features_sharing(
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
