# Sourced by the programs that ask the database: sets the connection, of which the password comes
# from a secret.
export PGHOST=${DB:-db} PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=3
PGPASSWORD=$(cat "${DB_PASSWORD_FILE:-/run/secrets/db_password}") || exit 1
export PGPASSWORD
# Without psql's own settings, values alone, and any error is one.
sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }
