#!/usr/bin/env bash
# Try a garment on over HTTP with curl and jq. Start the server with `stableviton app`, then:
#   examples/service.sh person.jpg garment.jpg result.png
# URL is the server's address; TOKEN its token, where it has one.
set -euo pipefail
url=${URL:-http://127.0.0.1:8000}
headers=(${TOKEN:+--header "Authorization: Bearer $TOKEN"})
call() { curl --silent --show-error --fail-with-body "${headers[@]}" "$@"; }

# 1. queue it: 202 and the job's id, or an error's sentence
job=$(call --form person=@"$1" --form garment=@"$2" --form quality=balanced "$url/v1/try-on" | jq --raw-output .id)

# 2. follow it: server-sent events, the last of which is done, failed or cancelled
call --no-buffer "$url/v1/jobs/$job/events" | grep '^event:'

# 3. fetch the image, and have the server forget everything
call --output "$3" "$url/v1/jobs/$job/result?format=png"
call --request DELETE "$url/v1/jobs/$job"
echo "$3"
