#!/bin/sh
# Runs once, on an empty data folder: a database for each service and one for the simulated gateway, each with a user
# of its own who alone may connect to it.
set -eu

create() { # NAME PASSWORD
    psql --quiet --set ON_ERROR_STOP=1 --set name="$1" --set password="$2" \
        --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE USER :"name" PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

create order_service "$ORDER_SERVICE_DATABASE_PASSWORD"
create payment_service "$PAYMENT_SERVICE_DATABASE_PASSWORD"
create notification_service "$NOTIFICATION_SERVICE_DATABASE_PASSWORD"
create gateway "$GATEWAY_DATABASE_PASSWORD"
