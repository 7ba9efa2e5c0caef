#!/bin/sh
# Writes src/gen from proto/. Its output is committed; run it after a change in proto/.
set -eu
cd "$(dirname "$0")"
PATH="$PWD/../node_modules/.bin:$PATH" exec buf generate
