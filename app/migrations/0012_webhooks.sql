-- Webhooks: where events are sent, the events that wait or were sent, and what became of each attempt.

CREATE TABLE webhook_endpoints (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uuid              uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    miner_hotkey      text CHECK (char_length(miner_hotkey) BETWEEN 47 AND 48),
    url               text NOT NULL CHECK (char_length(url) BETWEEN 1 AND 500),
    events            text[] NOT NULL CHECK (events <@ ARRAY[
                          'submission.evaluated', 'submission.corrected', 'submission.taken_down', 'appeal.decided',
                          'cycle.completed', 'weights.published']),
    created_at        timestamptz NOT NULL DEFAULT now(),
    secret            bytea NOT NULL CHECK (octet_length(secret) BETWEEN 24 AND 64),
    -- after a rotation it signs too until then
    old_secret        bytea CHECK (octet_length(old_secret) BETWEEN 24 AND 64),
    old_secret_until  timestamptz,
    disabled_at       timestamptz,
    disabled_reason   text CHECK (char_length(disabled_reason) BETWEEN 1 AND 1000),
    -- its deliveries are deleted bit by bit, then this row
    removed_at        timestamptz,
    -- since its last success; it is not called before paused_until
    failures          integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    paused_until      timestamptz,
    -- whether its last answer took long; when it was last called, or will have been: the one called longest ago is next
    is_slow           boolean NOT NULL DEFAULT false,
    called_at         timestamptz,
    CHECK ((old_secret IS NULL) = (old_secret_until IS NULL)),
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);
CREATE INDEX webhook_endpoints_miner ON webhook_endpoints (miner_hotkey) WHERE removed_at IS NULL;

CREATE TABLE webhook_deliveries (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- the id of the message: the same in each attempt
    uuid              uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    endpoint_id       bigint NOT NULL REFERENCES webhook_endpoints (id),
    event             text NOT NULL CHECK (event IN (
                          'submission.evaluated', 'submission.corrected', 'submission.taken_down', 'appeal.decided',
                          'cycle.completed', 'weights.published')),
    -- what the event is about; events about the same are delivered in the order of their ids
    subject           text NOT NULL CHECK (char_length(subject) BETWEEN 1 AND 100),
    data              jsonb NOT NULL CHECK (jsonb_typeof(data) = 'object'),
    created_at        timestamptz NOT NULL DEFAULT now(),
    state             text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'DELIVERED', 'FAILED')),
    not_before        timestamptz NOT NULL DEFAULT now(),
    -- claims in its whole life, and since it was last replayed
    attempts          integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    tries             integer NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND attempts),
    claim_token       uuid,
    lease_expires_at  timestamptz,
    ended_at          timestamptz,
    CHECK ((claim_token IS NULL) = (lease_expires_at IS NULL)),
    CHECK (claim_token IS NULL OR state = 'PENDING'),
    CHECK ((state = 'PENDING') = (ended_at IS NULL))
);
-- what an endpoint is sent next, and whether something earlier about the same waits
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, not_before, id) WHERE state = 'PENDING';
CREATE INDEX webhook_deliveries_subject ON webhook_deliveries (endpoint_id, subject, id) WHERE state = 'PENDING';
CREATE INDEX webhook_deliveries_claimed ON webhook_deliveries (endpoint_id) WHERE claim_token IS NOT NULL;
-- the list of an endpoint's deliveries
CREATE INDEX webhook_deliveries_endpoint ON webhook_deliveries (endpoint_id, id);
CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (endpoint_id, id) WHERE state = 'FAILED';
-- those that are deleted after some days
CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (ended_at) WHERE state <> 'PENDING';

CREATE TABLE webhook_attempts (
    delivery_id  bigint NOT NULL REFERENCES webhook_deliveries (id) ON DELETE CASCADE,
    number       integer NOT NULL CHECK (number > 0),
    ended_at     timestamptz NOT NULL DEFAULT now(),
    seconds      real NOT NULL CHECK (seconds >= 0),
    -- of the answer, if there was one, and how the answer began: a stranger wrote that
    status       integer CHECK (status BETWEEN 100 AND 999),
    answer       text NOT NULL DEFAULT '' CHECK (char_length(answer) <= 500),
    -- why it failed; null: it did not
    error        text CHECK (char_length(error) BETWEEN 1 AND 500),
    PRIMARY KEY (delivery_id, number)
);
