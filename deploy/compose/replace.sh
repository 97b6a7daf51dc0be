#!/bin/sh
# Replaces the containers of one service: starts new ones, and stops the old ones once the new ones are healthy.
#   deploy/compose/replace.sh SERVICE [options of docker compose, such as --file …]
set -eu
service=$1
shift
old=$(docker compose "$@" ps --quiet "$service")
count=$(printf '%s\n' "$old" | wc -w)
docker compose "$@" up --detach --no-build --no-deps --no-recreate --wait --scale "$service=$((count * 2))" "$service"
# SIGTERM: each finishes its work within its grace period.
docker stop -t 60 $old
docker rm $old
