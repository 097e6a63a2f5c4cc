-- Ledgers are compared with the database again and again: whoever changes a row by hand is found.
ALTER TABLE ledgers ADD COLUMN compared_at timestamptz, ADD COLUMN difference text,
    ADD COLUMN compared_chunks integer NOT NULL DEFAULT 0 CHECK (compared_chunks >= 0);
CREATE INDEX ledgers_that_differ ON ledgers (cycle_id) WHERE difference IS NOT NULL;
