-- outside a transaction
-- Submissions under a lease, by what the extension of a lease does not change. If the migration was killed after
-- the index was made, it is there.
CREATE INDEX CONCURRENTLY IF NOT EXISTS submissions_evaluating ON submissions (id) WHERE status = 'EVALUATING';
