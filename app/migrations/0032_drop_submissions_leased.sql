-- Replaced by submissions_evaluating.
DROP INDEX submissions_leased;
