-- A submission keeps its prompt's requirements as it keeps its weight; those accepted so far get the present ones,
-- by which they were judged. And fingerprints are numbered in the order in which they were remembered.

ALTER TABLE submissions
    ADD COLUMN requirements jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(requirements) = 'object');
UPDATE submissions s SET requirements = p.requirements
FROM prompts p WHERE p.id = s.prompt_id AND p.requirements <> '{}';

ALTER TABLE fingerprints ADD COLUMN remembered bigint NOT NULL UNIQUE GENERATED ALWAYS AS IDENTITY;
