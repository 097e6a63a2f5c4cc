"""For plain `gunicorn wsgi:app`, which reads this file where it is started."""

from app.web.gunicorn_settings import *  # noqa: F403
