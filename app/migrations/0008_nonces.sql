-- The nonces of signed requests, so far in Redis: a flush there let requests of the last ten seconds pass again.

CREATE TABLE nonces (
    hotkey   text NOT NULL CHECK (char_length(hotkey) BETWEEN 47 AND 48),
    nonce    bigint NOT NULL,
    used_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (hotkey, nonce)
);
CREATE INDEX nonces_used_at ON nonces (used_at);
