-- What a submission may become is forbidden by the database as well, as it is for cycles, scores and weights.

CREATE FUNCTION forbid_submission_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> NEW.status THEN
        RAISE EXCEPTION 'submission % cannot go from % to %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RAISE EXCEPTION 'submission % is %: its result, and what it counts for, are never changed', OLD.id, OLD.status
        USING ERRCODE = 'check_violation';
END $$;
-- A submission that was evaluated while it waited without a cycle still joins one.
CREATE TRIGGER submissions_forward_only BEFORE UPDATE ON submissions FOR EACH ROW WHEN (
    OLD.status = 'PENDING' AND NEW.status NOT IN ('PENDING', 'EVALUATING')
    OR OLD.status IN ('SCORED', 'REJECTED') AND (
        NEW.status <> OLD.status OR NEW.final_score <> OLD.final_score OR NEW.evaluated_at <> OLD.evaluated_at
        OR NEW.prompt_id <> OLD.prompt_id OR NEW.prompt_weight <> OLD.prompt_weight
        OR NEW.miner_uid <> OLD.miner_uid OR NEW.miner_hotkey <> OLD.miner_hotkey
        OR OLD.cycle_id IS NOT NULL AND NEW.cycle_id IS DISTINCT FROM OLD.cycle_id
    )
) EXECUTE FUNCTION forbid_submission_change();
