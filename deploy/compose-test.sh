#!/usr/bin/env bash
# Brings the compose stack up with a real Docker engine and proves it: files right, Flower closed
# without its password, three workers, one of them killed, files right again, Redis killed and its
# ledger whole, demo, down.
#
# Where no engine answers, or the images cannot be had, it says so and ends with 0. Then:
#   BASE_IMAGE=...     a local image with Python 3.11+, venv and pip, in place of the public one
#   REDIS_IMAGE=...    a local image with redis-server and redis-cli; made here from BASE_IMAGE
#                      and Debian's packages when the public one cannot be pulled
#   PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_CERT    a package index of one's own, while building
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s s: %s\n' "$SECONDS" "$*" >&2; }
skip() { say "skipped: $*"; exit 0; }
fail() { say "FAILED: $*"; compose ps >&2 || true; compose logs --tail 40 >&2 || true; exit 1; }

command -v docker >/dev/null || skip "no docker command is installed here"
docker info >/dev/null 2>&1 || skip "no Docker engine answers here"
if docker compose version >/dev/null 2>&1; then engine=(docker compose)
elif command -v docker-compose >/dev/null; then engine=(docker-compose)
else skip "neither 'docker compose' nor docker-compose is installed here"; fi

# --- images -----------------------------------------------------------------------------------

have() { docker image inspect "$1" >/dev/null 2>&1 || docker pull -q "$1" >/dev/null 2>&1; }

export BASE_IMAGE=${BASE_IMAGE:-python:3.13-slim-bookworm}
have "$BASE_IMAGE" || skip "the base image $BASE_IMAGE cannot be had; name a local one: BASE_IMAGE="
export REDIS_IMAGE=${REDIS_IMAGE:-redis:8.2-bookworm}
if ! have "$REDIS_IMAGE"; then
    say "$REDIS_IMAGE cannot be had: a stand-in is made of $BASE_IMAGE and Debian's redis-server"
    export REDIS_IMAGE=geodes-tasks-test-redis:local
    have "$REDIS_IMAGE" || docker build -q -t "$REDIS_IMAGE" - >&2 <<DOCKERFILE || skip "no image of Redis can be had; name a local one: REDIS_IMAGE="
FROM $BASE_IMAGE
RUN apt-get update && apt-get install -y --no-install-recommends redis-server && install -d -o 999 -g 999 /data
DOCKERFILE
fi

# --- a place of its own -----------------------------------------------------------------------

work=$(mktemp -d)
project=geodes-tasks-test-$$
# As root: a user whom neither the image nor this machine knows.
if [ "$(id -u)" = 0 ]; then GEODES_UID=12345 GEODES_GID=12345; else GEODES_UID=$(id -u) GEODES_GID=$(id -g); fi
export GEODES_UID GEODES_GID GEODES_DATA=$work/data GEODES_API_KEY_FILE=$work/key
export FLOWER_LISTEN=127.0.0.1:0
mkdir "$GEODES_DATA"
printf demo-key > "$GEODES_API_KEY_FILE"
chmod 400 "$GEODES_API_KEY_FILE"
chown -R "$GEODES_UID:$GEODES_GID" "$work" 2>/dev/null || true

# No .env of whoever runs this: its settings are for their own stack.
compose() { "${engine[@]}" --env-file deploy/compose/no-secret -p "$project" -f docker-compose.yml -f deploy/compose/test.yml "$@"; }
client() { compose run --rm -T client "$@"; }
tidy() { compose --profile demo --profile tools down --volumes --timeout 30 >/dev/null 2>&1 || true; rm -rf "$work"; }
trap tidy EXIT

wait_for() { # SECONDS WORDS COMMAND...: until the command succeeds
    local end=$((SECONDS + $1)) words=$2; shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "not in time: $words"
        sleep 1
    done
}
healthy() { # SERVICE COUNT
    local ids; ids=$(compose ps -q "$1")
    [ "$(docker inspect --format '{{.State.Health.Status}}' $ids | grep -cx healthy)" = "$2" ]
}
right() { # BATCH COUNT: so many files, all of them as the catalogue says
    client report "$1" --format md5sums > "$work/$1.md5"
    [ "$(wc -l < "$work/$1.md5")" = "$2" ] || fail "$1: $(wc -l < "$work/$1.md5") files instead of $2"
    # The paths are those of the containers.
    sed "s:  /data/:  $GEODES_DATA/:" "$work/$1.md5" | md5sum --check --quiet || fail "$1: wrong bytes"
    say "$1: $2 files are right"
}

# --- up ---------------------------------------------------------------------------------------

say "build"
compose build secrets >&2
compose --profile demo build demo-portal >&2

size() { docker image inspect --format '{{.Size}}' "$1"; }
ours=$((($(size "${GEODES_TASKS_IMAGE:-geodes-tasks:local}") - $(size "$BASE_IMAGE")) / 1000000))
say "our layers: $ours MB above the base image"
[ "$ours" -le 85 ] || fail "our layers take $ours MB, 85 at most"

say "up"
compose up -d --no-build >&2 || fail "it does not come up"
wait_for 180 "a healthy worker" healthy worker 1
wait_for 120 "a healthy Flower" healthy flower 1

say "nobody runs as root, no container can write to itself, Redis has no port outside"
for id in $(compose ps -q); do
    facts=$(docker inspect --format '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "$id")
    [[ $facts == [1-9]*" true [ALL]" ]] || fail "$(docker inspect --format '{{.Name}}' "$id"): $facts"
done
[ -z "$(docker port "$(compose ps -q redis)")" ] || fail "Redis is published"

say "enqueue, and files right"
client enqueue /demo/items.json -o /data/first --batch first
client watch first >&2
right first 24
[ "$(stat -c %u:%g "$GEODES_DATA"/first/*.zip | sort -u)" = "$GEODES_UID:$GEODES_GID" ] || fail "files of another owner"

say "Flower answers with its password only"
address=http://$(docker port "$(compose ps -q flower)" 5555 | head -1)
auth=$(compose exec -T flower cat /secrets/flower/basic-auth)
code() { curl -s -o /dev/null -w '%{http_code}' "$@"; }
[ "$(code "$address/")" = 401 ] || fail "Flower is open: $(code "$address/")"
[ "$(code "$address/api/tasks")" = 401 ] || fail "Flower's API is open"
[ "$(code -u "geodes:wrong" "$address/")" = 401 ] || fail "Flower takes any password"
[ "$(code -L -u "$auth" "$address/")" = 200 ] || fail "Flower refuses its password"
seen=$(curl -s -u "$auth" "$address/api/tasks" | grep -o '"uuid"' | wc -l)
[ "$seen" -ge 24 ] || fail "Flower has seen $seen downloads"

say "three workers, one of them killed in the middle"
compose up -d --no-build --scale worker=3 >&2
wait_for 180 "three healthy workers" healthy worker 3
client enqueue /demo/items.json -o /data/second --batch second
busy() { ls "$GEODES_DATA"/second/*.zip "$GEODES_DATA"/second/.geodes-tasks/*.part; }
wait_for 60 "downloads under way" busy
docker kill "$(compose ps -q worker | head -1)" >&2
[ "$(ls "$GEODES_DATA"/second/*.zip | wc -l)" -lt 24 ] || fail "all was over before the kill"
client watch second >&2
right second 24

say "Redis killed and started again: it has its ledger"
compose kill redis >&2
compose start redis >&2
wait_for 60 "a healthy Redis" healthy redis 1
right second 24

say "demo, with no way out of its network"
compose --profile demo run --rm -T demo-client >&2 || fail "the demonstration failed"
[ "$(ls "$GEODES_DATA"/demo/*.zip | wc -l)" = 6 ] || fail "the demonstration left $(ls "$GEODES_DATA"/demo | wc -l) files"

say "down"
compose --profile demo --profile tools down --volumes --timeout 60 >&2
[ -z "$(docker ps -aq -f "label=com.docker.compose.project=$project")" ] || fail "something still runs"
say "all right"
