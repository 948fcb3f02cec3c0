# Make the database at the first start, then run the server as the user postgres.
set -eu
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }

chown postgres:postgres "$PGDATA"
chmod 700 "$PGDATA"
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    chmod 644 /tmp/password
    as_postgres initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-host=scram-sha-256 --auth-local=trust --encoding=UTF8
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    as_postgres pg_ctl --wait -o '-c listen_addresses=' start
    if [ "$POSTGRES_DB" != postgres ]; then as_postgres createdb --username="$POSTGRES_USER" "$POSTGRES_DB"; fi
    as_postgres pg_ctl --wait --mode=fast stop
fi
exec setpriv --reuid postgres --regid postgres --init-groups "$@" -c 'listen_addresses=*'
