#!/bin/sh
# The voting page. GET / shows two buttons, POST / with `vote=a` or `vote=b` puts the vote on the
# queue in redis. A cookie tells voters apart: who votes again changes their vote.
# Settings: OPTIONS_FILE names the two choices, REDIS the queue's host.
options=${OPTIONS_FILE:-/etc/vote/options}
theme=$(cat /etc/vote/theme) || {
  printf 'Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\n'
  echo 'the page has no theme'
  exit
}
a=$(sed -n 's/^a=//p' "$options")
b=$(sed -n 's/^b=//p' "$options")

voter=$(printf %s "$HTTP_COOKIE" | sed -n 's/.*voter=\([0-9a-f]\{16\}\).*/\1/p')
[ -n "$voter" ] || voter=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')

said=''
if [ "$REQUEST_METHOD" = POST ]; then
  body=$(head -c "$(( ${CONTENT_LENGTH:-0} < 100 ? ${CONTENT_LENGTH:-0} : 100 ))")
  case $body in
    vote=a) said=$a ;;
    vote=b) said=$b ;;
    *)
      printf 'Status: 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n'
      echo 'a vote is "vote=a" or "vote=b"'
      exit
      ;;
  esac
  if ! redis-cli -h "${REDIS:-redis}" lpush votes "$voter ${body#vote=}" >/dev/null 2>&1; then
    printf 'Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\n'
    echo 'the queue does not answer; try again'
    exit
  fi
fi

case $theme in
  dark) colours='background:#222;color:#eee' ;;
  *) colours='background:#fff;color:#222' ;;
esac
# An IPv4 client of a socket for both families is "[::ffff:192.0.2.1]".
client=${REMOTE_ADDR#[}
client=${client%]}
client=${client#::ffff:}
printf 'Content-Type: text/html; charset=utf-8\r\nSet-Cookie: voter=%s; HttpOnly\r\n\r\n' "$voter"
cat <<PAGE
<!doctype html>
<title>$a or $b?</title>
<body style="font-family:sans-serif;text-align:center;$colours">
<h1>$a or $b?</h1>
<form method="post"><button name="vote" value="a">$a</button> <button name="vote" value="b">$b</button></form>
<p>${said:+You voted for $said.}</p>
<p><small>version $(cat /etc/vote/version) ($theme), from $(hostname) for $client</small></p>
PAGE
