-- What fails again and again has an end, whatever it fails of, and holds up no cycle twice. Faults so far are not told
-- apart: they count as explained.

ALTER TABLE submissions
    ADD COLUMN unexplained_faults integer NOT NULL DEFAULT 0 CHECK (unexplained_faults >= 0),
    ADD COLUMN lost_by text[] NOT NULL DEFAULT '{}',
    ADD COLUMN carried_over boolean NOT NULL DEFAULT false;
ALTER TABLE reviews
    ADD COLUMN let_go boolean NOT NULL DEFAULT false;
