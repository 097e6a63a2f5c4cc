#!/bin/sh
# As the official image does: makes the cluster at the first start, then becomes the server.
set -eu
as_postgres() { setpriv --reuid=999 --regid=999 --clear-groups -- "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    install -d -o 999 -g 999 -m 0700 "$PGDATA"
    echo "$POSTGRES_PASSWORD" >/tmp/password
    as_postgres initdb --pgdata="$PGDATA" --username="$POSTGRES_USER" --pwfile=/tmp/password \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    as_postgres pg_ctl --pgdata="$PGDATA" --wait --options="-c listen_addresses= -k /tmp" start
    as_postgres createdb --host=/tmp --username="$POSTGRES_USER" "${POSTGRES_DB:-$POSTGRES_USER}"
    as_postgres pg_ctl --pgdata="$PGDATA" --wait --mode=fast stop
fi
exec setpriv --reuid=999 --regid=999 --clear-groups -- "$@" -c "listen_addresses=*" -k /tmp
