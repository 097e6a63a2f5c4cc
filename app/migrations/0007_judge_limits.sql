-- What a single submission may cost at the judge's, whose failures trip a breaker, and what servers refuse.

ALTER TABLE submissions
    ADD COLUMN judge_calls integer NOT NULL DEFAULT 0 CHECK (judge_calls >= 0);
ALTER TABLE circuit_breakers
    ADD COLUMN failed_submissions bigint[] NOT NULL DEFAULT '{}';
CREATE TABLE judge_habits (
    endpoint    text NOT NULL,
    model       text NOT NULL,
    habits      jsonb NOT NULL CHECK (jsonb_typeof(habits) = 'object'),
    learned_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (endpoint, model)
);
