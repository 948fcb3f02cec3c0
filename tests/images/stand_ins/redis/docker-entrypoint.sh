#!/bin/sh
# Run the server as the user redis, open to the container's network.
set -eu
if [ "$1" = redis-server ]; then
    chown redis:redis /data
    exec setpriv --reuid redis --regid redis --clear-groups "$@" --protected-mode no
fi
exec "$@"
