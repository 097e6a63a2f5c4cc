-- Ledgers are compared with the database again and again: whoever changes a row by hand is found.
ALTER TABLE ledgers ADD COLUMN compared_at timestamptz, ADD COLUMN difference text;
CREATE INDEX ledgers_by_comparison ON ledgers (compared_at NULLS FIRST, cycle_id);
CREATE INDEX ledgers_that_differ ON ledgers (cycle_id) WHERE difference IS NOT NULL;
