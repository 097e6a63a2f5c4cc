-- A miner's page shows its completed cycles. Only the end of a cycle writes here, so nothing waits for this.
CREATE INDEX miner_scores_miner ON miner_scores (miner_hotkey, cycle_id);
