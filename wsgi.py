"""The WSGI entry point: `gunicorn wsgi:app`."""

import os
import sys

from app import create_app, logs
from app.config import ConfigError, Settings, complete_environment

try:
    complete_environment()
    settings = Settings.from_environ().require_server()
except ConfigError as error:
    sys.exit(str(error))
logs.configure(settings.log_level, settings.log_format, for_good=True)
app = create_app(settings)
# before the first request, which would wait for it; gunicorn forks later, when nothing is connected yet
app.extensions["storage"].prepare()
os.register_at_fork(after_in_child=app.extensions["storage"].take_over)
