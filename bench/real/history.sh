#!/bin/sh
# git: show a history with its differences and renames, and pack it anew. history.sh REPOSITORY
set -eu
cd "$1"
git log -p -M --stat --no-color main
git pack-objects --all --stdout --no-reuse-delta --threads=1 -q </dev/null
