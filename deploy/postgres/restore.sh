#!/bin/bash
# Restores the backup that comes as a tar file on standard input, into databases that are empty:
#   docker compose up --wait postgres
#   docker compose exec -T postgres bash /order-rail/restore.sh <backup.tar
#   docker compose up --wait
# It takes what backup.sh and, from PostgreSQL, `order-rail backup` have written. Nothing is written unless all of it can be.
set -euo pipefail
user=${POSTGRES_USER:-postgres}
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"

query() { psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --username "$user" "$@"; }

refuse() {
    echo "Not restored: $*" >&2
    exit 1
}

of_manifest() { query --dbname postgres --set manifest="$(cat manifest.json)" <<<"$1"; } # a query over :'manifest'::json

tar --extract || refuse "this is no tar file, or not all of one; expected what backup.sh has written"
[[ -f SHA256SUMS ]] || refuse "this backup was not finished: it has no SHA256SUMS"
sha256sum --check --strict --quiet SHA256SUMS >&2 || refuse "the backup is damaged; use another one"
format=$(of_manifest "SELECT :'manifest'::json ->> 'format'")
[[ $format == 1 ]] || refuse "the backup was made by a newer version of Order Rail"
read_at=$(of_manifest "SELECT (:'manifest'::json ->> 'read_at')::timestamptz")
mapfile -t copies < <(of_manifest "
    SELECT concat_ws(' ', copy ->> 'name', copy ->> 'kind', copy ->> 'file', copy ->> 'server')
    FROM json_array_elements(:'manifest'::json -> 'databases') AS copy")
here=$(query --dbname postgres --command "SELECT current_setting('server_version_num')::int / 10000")

for copy in "${copies[@]}"; do
    read -r name kind _ server <<<"$copy"
    [[ $kind == postgresql ]] || refuse "the backup of $name is of a $kind database"
    [[ $DATABASES == *"$name"* ]] || refuse "there is no database $name here; DATABASES is: $DATABASES"
    ((here >= server)) || refuse "the backup needs PostgreSQL $server, and this one is older: $here"
    tables=$(query --dbname "$name" --command "SELECT string_agg(tablename, ', ') FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
    [[ -z $tables ]] || refuse "the database $name is not empty: it has the tables $tables. Begin with new volumes"
    others=$(query --dbname "$name" --command "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
    ((others == 0)) || refuse "the database $name is in use, by $others connections. Stop the services first"
done

restored_at=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
restored=
for copy in "${copies[@]}"; do
    read -r name _ file _ <<<"$copy"
    pg_restore --username "$user" --dbname "$name" --role="$name" --no-owner --no-privileges \
        --single-transaction --exit-on-error "$file" ||
        refuse "$name failed. Restored so far: ${restored:-nothing}. Start nothing, and begin with new volumes"
    query --dbname "$name" --set name="$name" --set read_at="$read_at" --set restored_at="$restored_at" <<'SQL'
SET client_min_messages = warning;
SET ROLE :"name";
CREATE TABLE IF NOT EXISTS milestones (name varchar PRIMARY KEY, at timestamptz NOT NULL);
INSERT INTO milestones VALUES ('restored_to', :'read_at'), ('restored_at', :'restored_at')
ON CONFLICT (name) DO UPDATE SET at = excluded.at;
SQL
    restored+="$name "
done
echo "Restored ${restored}as of $read_at"
