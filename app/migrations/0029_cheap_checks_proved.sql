-- While it reads the tables, they are read and written as always.
ALTER TABLE submissions
    VALIDATE CONSTRAINT submissions_video_hash_check,
    VALIDATE CONSTRAINT submissions_signature_check,
    VALIDATE CONSTRAINT submissions_consent_hash_check;
ALTER TABLE verification_reports
    VALIDATE CONSTRAINT verification_reports_report_hash_check;
