#!/usr/bin/env bash
# Builds Sluice, the baselines and the tool, measures, and prints the tables.
#
#   bench/run.sh                      all scenarios (about two hours)
#   bench/run.sh broadcast idle       only these; bench/bin/bench list names them
#
# Options, from the environment:
#   N=3                 repetitions; targets take turns in each
#   TARGETS=a,b         only these targets
#   SECS=60             so long for each stage that lasts a time
#   QUICK=1             a twentieth of the clients for 2 s: shows that it works, figures mean nothing
#   SERVER_CORE=0 LOAD_CORE=1
#   OUT=bench/out/X.jsonl
#   UPDATE=1            write the tables into docs/performance.md, too
#
# Two cores are needed, taskset (util-linux) and `ulimit -n` of 11000. Targets that go through
# Redis are left out if there is no redis-server. Nothing else should run meanwhile.
set -euo pipefail
OUT=${OUT:+$(realpath -m "$OUT")}
cd "$(dirname "${BASH_SOURCE[0]}")"

N=${N:-3}
SERVER_CORE=${SERVER_CORE:-0}
LOAD_CORE=${LOAD_CORE:-1}
OUT=${OUT:-$PWD/out/$(date -u +%Y%m%dT%H%M%SZ).jsonl}

mkdir -p bin out
(cd .. && CGO_ENABLED=0 go build -trimpath -o bench/bin/sluice .)
CGO_ENABLED=0 go build -trimpath -o bin/ . ./gohub ./goideal

flags=(-bin bin -out "$OUT" -n "$N" -server-core "$SERVER_CORE" -load-core "$LOAD_CORE")
if ! command -v redis-server >/dev/null; then
  echo "no redis-server here: the targets that need it are left out" >&2
  flags+=(-no-redis)
fi
[[ -n ${TARGETS:-} ]] && flags+=(-targets "$TARGETS")
[[ -n ${QUICK:-} ]] && flags+=(-quick)
[[ -n ${SECS:-} ]] && flags+=(-secs "$SECS")

status=0
taskset -c "$LOAD_CORE" bin/bench run "${flags[@]}" "$@" || status=$?
[[ -s $OUT ]] || exit "$status"
bin/bench summary "$OUT"
[[ -n ${UPDATE:-} ]] && bin/bench summary -into ../docs/performance.md "$OUT"
exit "$status"
