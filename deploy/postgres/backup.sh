#!/bin/bash
# Writes a backup of all databases to standard output, as a tar file, while the system goes on:
#   docker compose exec -T postgres bash /order-rail/backup.sh >backup.tar
# In it is what `order-rail backup` writes into a directory. The variable DATABASES names the databases, effects before
# causes: the first service first.
set -euo pipefail
[[ ! -t 1 ]] || { echo "Standard output is a terminal; docker compose exec needs -T, and >backup.tar" >&2; exit 1; }
user=${POSTGRES_USER:-postgres}
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"

now() { date -u +%Y-%m-%dT%H:%M:%S.%6NZ; }

query() { psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --username "$user" "$@"; }

# All are fixed at one moment before any is copied: a transaction in each stays open until this script ends.
mkdir held
read_at=$(now)
for name in $DATABASES; do
    mkfifo "held/$name.in"
    query --dbname "$name" <"held/$name.in" >"held/$name.snapshot" &
    exec {input}>"held/$name.in"
    echo "SET idle_in_transaction_session_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
          SELECT pg_export_snapshot();" >&"$input"
    until [[ -s held/$name.snapshot ]]; do
        kill -0 $! 2>/dev/null || exit 1 # psql has said why
        sleep 0.02
    done
done

copies=
for name in $DATABASES; do
    pg_dump --username "$user" --no-owner --no-privileges --format=custom --snapshot="$(cat "held/$name.snapshot")" \
        --file="$name.dump" "$name"
    server=$(query --dbname "$name" --command "SELECT current_setting('server_version_num')::int / 10000")
    revision=$(query --dbname "$name" --command "SELECT max(version_num) FROM alembic_version" 2>/dev/null || true)
    copies+=$(printf '%s\n    {"name": "%s", "kind": "postgresql", "file": "%s.dump", "server": %s, "revision": "%s"}' \
        "${copies:+,}" "$name" "$name" "$server" "$revision")
done
printf '{\n  "format": 1,\n  "read_at": "%s",\n  "finished_at": "%s",\n  "databases": [%s\n  ]\n}\n' \
    "$read_at" "$(now)" "$copies" >manifest.json
sha256sum -- *.dump manifest.json >SHA256SUMS
tar --create -- *.dump manifest.json SHA256SUMS
