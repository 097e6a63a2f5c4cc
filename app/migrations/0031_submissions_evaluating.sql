-- outside a transaction
-- Submissions under a lease, by what the extension of a lease does not change.
CREATE INDEX CONCURRENTLY submissions_evaluating ON submissions (id) WHERE status = 'EVALUATING';
