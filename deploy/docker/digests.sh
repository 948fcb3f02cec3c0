#!/bin/sh
# Pin the images that others make to what their tags mean now: sh deploy/docker/digests.sh
#
# For each image of docker-compose.yml and the Dockerfile the engine (docker, or podman) is asked to fetch the tag, and the digest
# that it got goes into .env (or the file that is named), which Compose reads: from then on that content is run, whatever the tag
# becomes. Run it again when you mean to update, and try the update before it reads patients. With --check nothing is
# fetched: it says which are not pinned, and fails if any is not. Next: secrets.sh (the other lines of .env).
set -eu
umask 077
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
check=
if [ "${1:-}" = --check ]; then check=yes && shift; fi
file=${1:-$root/.env}

# "NAME:TAG VARIABLE", of "image: NAME:TAG${VARIABLE:-}" and of "FROM NAME:TAG${VARIABLE}".
images() {
    sed -n -E 's/^ *(image:|FROM) ([^ $]+)\$\{([A-Z]+_DIGEST)(:-)?\}.*$/\2 \3/p' "$root/docker-compose.yml" "$here/Dockerfile" | sort -u
}

digest() { # IMAGE -> sha256:...
    "$engine" pull --quiet "$1" >/dev/null
    "$engine" image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" |
        sed -n -E 's/^.*@(sha256:[0-9a-f]{64})$/\1/p' | head -n 1
}

if [ -n "$check" ]; then
    images | {
        open=0
        while read -r image variable; do
            grep -q -E "^$variable=@sha256:[0-9a-f]{64}$" "$file" 2>/dev/null && continue
            echo "$image is not pinned: $variable is not in $file"
            open=1
        done
        exit "$open"
    }
    exit
fi

if docker version >/dev/null 2>&1; then engine=docker # the engine answers, not only the command
elif podman version >/dev/null 2>&1; then engine=podman
else echo "neither docker nor podman works here" >&2 && exit 1; fi
touch "$file"
chmod 600 "$file"
images | while read -r image variable; do
    got=$(digest "$image")
    [ -n "$got" ] || { echo "$engine tells no digest of $image; nothing more was changed" >&2 && exit 1; }
    grep -v "^$variable=" "$file" >"$file.new" || true
    printf '%s=@%s\n' "$variable" "$got" >>"$file.new"
    mv -- "$file.new" "$file"
    echo "$image@$got"
done
