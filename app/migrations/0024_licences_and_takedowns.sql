-- Submissions carry a licence and a consent, and a takedown says itself who asked for it and why.
ALTER TABLE submissions
    ADD COLUMN licence text CHECK (licence ~ '^[A-Za-z0-9][A-Za-z0-9.+-]{0,99}$'),
    ADD COLUMN consent_hash text CHECK (consent_hash ~ '^[0-9a-f]{64}$'),
    ADD COLUMN consent_version text CHECK (consent_version ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$'),
    ADD COLUMN consent_date date,
    ADD CONSTRAINT submissions_consent CHECK (num_nulls(consent_hash, consent_version, consent_date) IN (0, 3));
ALTER TABLE gold_showings
    ADD COLUMN licence text, ADD COLUMN consent_hash text, ADD COLUMN consent_version text,
    ADD COLUMN consent_date date;
-- the defaults are for the release before, which may still run
ALTER TABLE takedowns
    ADD COLUMN by_miner boolean NOT NULL DEFAULT false,
    ADD COLUMN taken_down_by text NOT NULL DEFAULT 'an operator' CHECK (char_length(taken_down_by) BETWEEN 1 AND 200),
    ADD COLUMN reason text NOT NULL DEFAULT 'Not recorded.' CHECK (char_length(reason) BETWEEN 1 AND 2000),
    ADD COLUMN evidence jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(evidence) = 'object'),
    ADD COLUMN signature text CHECK (signature ~ '^[0-9a-f]{128}$');
UPDATE takedowns t SET taken_down_by = c.decided_by, reason = c.reason, evidence = c.evidence
FROM corrections c WHERE c.submission_id = t.submission_id AND c.kind = 'takedown';
