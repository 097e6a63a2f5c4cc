-- Who did what with an admin's token.
CREATE TABLE admin_actions (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    done_at  timestamptz NOT NULL DEFAULT now(),
    done_by  text NOT NULL CHECK (char_length(done_by) BETWEEN 1 AND 200),
    action   text NOT NULL CHECK (char_length(action) BETWEEN 1 AND 200),
    subject  text NOT NULL CHECK (char_length(subject) <= 200)
);
CREATE TRIGGER admin_actions_immutable BEFORE UPDATE OR DELETE ON admin_actions
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
