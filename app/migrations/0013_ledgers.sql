-- Ledgers of completed cycles, by which anyone can recompute their weights, and the keys that sign receipts. Cycles that
-- are completed already get none: what their metagraph was is not known any more.

ALTER TABLE verification_reports ADD COLUMN report_hash text CHECK (report_hash ~ '^[0-9a-f]{64}$');

CREATE TABLE ledgers (
    cycle_id           bigint PRIMARY KEY REFERENCES cycles (id),
    previous_cycle_id  bigint UNIQUE REFERENCES ledgers (cycle_id),
    root               text NOT NULL CHECK (root ~ '^[0-9a-f]{64}$'),
    lines              bigint NOT NULL CHECK (lines >= 2),
    netuid             integer CHECK (netuid BETWEEN 0 AND 65535),
    metagraph_at       timestamptz,
    neurons            jsonb NOT NULL CHECK (jsonb_typeof(neurons) = 'array'),
    chunk_roots        bytea NOT NULL CHECK (octet_length(chunk_roots) % 32 = 0),
    chunk_first_ids    bigint[] NOT NULL,
    stored_at          timestamptz,
    CHECK ((netuid IS NULL) = (metagraph_at IS NULL)),
    CHECK (previous_cycle_id < cycle_id)
);
CREATE UNIQUE INDEX ledgers_one_first ON ledgers ((previous_cycle_id IS NULL)) WHERE previous_cycle_id IS NULL;
CREATE INDEX ledgers_not_stored ON ledgers (cycle_id) WHERE stored_at IS NULL;
CREATE TRIGGER ledgers_immutable
    BEFORE UPDATE OF cycle_id, previous_cycle_id, root, lines, netuid, metagraph_at, neurons, chunk_roots, chunk_first_ids
    OR DELETE ON ledgers FOR EACH ROW EXECUTE FUNCTION forbid_change();

CREATE TABLE signing_keys (
    key         text PRIMARY KEY CHECK (char_length(key) BETWEEN 47 AND 48),
    valid_from  timestamptz NOT NULL DEFAULT now(),
    retired_at  timestamptz CHECK (retired_at >= valid_from)
);
CREATE UNIQUE INDEX signing_keys_one_valid ON signing_keys ((retired_at IS NULL)) WHERE retired_at IS NULL;
