-- Submissions, and showings of gold films, that have a contact sheet in storage, under sheets/{uuid}.webp.
CREATE TABLE contact_sheets (
    uuid       uuid PRIMARY KEY,
    stored_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX contact_sheets_old ON contact_sheets (stored_at);
