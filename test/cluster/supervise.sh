#!/usr/bin/env bash
# Keeps one component of a cluster running: supervise.sh NAME COMMAND [ARG...]
# Its log is log/NAME, its process id run/NAME.pid; while run/NAME.down exists it stays down (see cluster-ctl).
# It starts again after it has ended, whatever the reason, as an init system would do.
set -u
name=$1; shift
exec 2>>"log/$name"
child=
trap '[ -z "$child" ] || kill -KILL $child 2>/dev/null; exit 0' TERM INT HUP
while :; do
  while [ -e "run/$name.down" ]; do sleep 0.05; done
  setpriv --pdeathsig KILL "$@" >>"log/$name" 2>&1 </dev/null & child=$!
  echo $child > "run/$name.pid"
  wait $child; status=$?
  child=; rm -f "run/$name.pid"
  echo "supervise.sh: $name ended with status $status" >>"log/$name"
  [ -e "run/$name.down" ] || sleep 0.2
done
