#!/bin/sh
# Make the passwords of docker-compose.yml, once: sh deploy/docker/secrets.sh writes .env beside it (or the file that is named).
# What is there already is kept, so that it may be run again after an update that brings a new one.
set -eu
umask 077
file=${1:-$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)/.env}
touch "$file"
chmod 600 "$file"
for name in ORTHANC_PASSWORD POSTGRES_PASSWORD REDIS_PASSWORD GRAFANA_PASSWORD; do
    grep -q "^$name=." "$file" && continue
    # Letters and digits only: they become part of a JSON text and of a URL.
    printf '%s=%s\n' "$name" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" >>"$file"
done
