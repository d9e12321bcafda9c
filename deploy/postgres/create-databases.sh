#!/bin/sh
# Runs once, on an empty data folder: for each variable NAME_DATABASE_PASSWORD a database `name`, with a user of that
# name who alone may connect to it.
set -eu

create() { # NAME PASSWORD
    psql --quiet --set ON_ERROR_STOP=1 --set name="$1" --set password="$2" \
        --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE USER :"name" PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

for variable in $(env | sed -n 's/^\([A-Z_]*_DATABASE_PASSWORD\)=.*/\1/p'); do
    name=$(echo "${variable%_DATABASE_PASSWORD}" | tr '[:upper:]' '[:lower:]')
    create "$name" "$(printenv "$variable")"
done
