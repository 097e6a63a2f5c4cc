-- What the moments that are looked at in a video follow from: one seed a submission, so that whoever evaluates it
-- again asks the judge about the same stills, and the judge's memory knows them.
--
-- A default that differs by row would write the whole table anew. So the closed submissions, which nobody evaluates
-- any more, share a constant, and only the open ones are written.

ALTER TABLE submissions ADD COLUMN frame_seed uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
ALTER TABLE submissions ALTER COLUMN frame_seed SET DEFAULT gen_random_uuid();
UPDATE submissions SET frame_seed = gen_random_uuid() WHERE status IN ('PENDING', 'EVALUATING');
