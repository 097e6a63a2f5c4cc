"""What RQ and rq-scheduler run: thin, each job calls one service function."""
