-- outside a transaction
-- A miner's fingerprints that count as submitted after all others. If the migration was killed after the index was
-- made, it is there.
CREATE INDEX CONCURRENTLY IF NOT EXISTS fingerprints_demoted ON fingerprints (miner_hotkey, submission_id) WHERE demoted;
