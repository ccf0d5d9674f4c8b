#!/bin/sh
# The result page: how many voters chose what, as HTML, or as text for `?text`.
# Settings: OPTIONS_FILE names the two choices, DB and DB_PASSWORD_FILE lead to the database.
. /lib/voting/database.sh
options=${OPTIONS_FILE:-/etc/vote/options}
a=$(sed -n 's/^a=//p' "$options")
b=$(sed -n 's/^b=//p' "$options")

if ! counts=$(sql -F ' ' -c \
  "select count(*) filter (where choice = 'a'), count(*) filter (where choice = 'b') from votes" 2>&1)
then
  case $counts in
    *'"votes" does not exist'*) counts='0 0' ;;
    *)
      printf 'Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\n'
      echo 'the database does not answer'
      exit
      ;;
  esac
fi
if [ "$QUERY_STRING" = text ]; then
  printf 'Content-Type: text/plain; charset=utf-8\r\n\r\n'
  echo "$a: ${counts% *}, $b: ${counts#* }"
  exit
fi
printf 'Content-Type: text/html; charset=utf-8\r\nRefresh: 2\r\n\r\n'
cat <<PAGE
<!doctype html>
<title>$a or $b?</title>
<body style="font-family:sans-serif;text-align:center">
<h1>$a ${counts% *} : ${counts#* } $b</h1>
PAGE
