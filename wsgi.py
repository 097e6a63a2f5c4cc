"""The WSGI entry point: `gunicorn wsgi:app`."""

from dotenv import load_dotenv

from app import create_app, logs
from app.config import Settings

load_dotenv(".env")
settings = Settings.from_environ()
logs.configure(settings.log_level, settings.log_format)
app = create_app(settings)
# before the first request, which would wait for it; nothing is connected yet
app.extensions["storage"].prepare()
