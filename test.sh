#!/usr/bin/env bash
# The one test command: formatting, vet, staticcheck, known vulnerabilities, all Go and JavaScript tests with the race
# detector, a real Redis, Prometheus, Jaeger, Chromium, Firefox and four proxies, and a round of fuzzing.
#
#   ./test.sh          everything, some minutes; the first time some more, since Jaeger is built then
#   ./test.sh quick    without browsers, proxies, Jaeger and fuzzing
#   ./test.sh jaeger   only the tests that read traces back from Jaeger
#
# It needs Go and Node. On Debian and Ubuntu it installs the rest (gcc for the race detector,
# redis-server, prometheus, chromium, firefox-esr, nginx, haproxy, apache2, caddy) when it is root or may use sudo; elsewhere it says what is missing.
# Jaeger is built from its Go module and kept in the user's cache, see e2e/jaeger/build.sh.
set -euo pipefail
cd "$(dirname "$0")"

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0
mapfile -t modules < <(find . -name go.mod -not -path '*/node_modules/*' -printf '%h\n' | sort) # the first is this one
fuzz_runs=4000 # of each fuzz target, some two seconds: where a time is given, go test may fail with the end of it

mode=${1-all}
case "$mode" in
all | quick | jaeger) ;;
*)
	echo "usage: ./test.sh [quick | jaeger]" >&2
	exit 2
	;;
esac

passed=0
failed=0
failures=()
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# step NAME COMMAND… runs one step and books it as one test.
step() {
	local name=$1 from=$SECONDS
	shift
	printf '\n== %s\n' "$name"
	if "$@"; then
		passed=$((passed + 1))
		printf -- '-- %s: ok, %d s\n' "$name" $((SECONDS - from))
	else
		failed=$((failed + 1))
		failures+=("$name")
		printf -- '-- %s: FAILED, %d s\n' "$name" $((SECONDS - from))
	fi
}

# go_tests NAME MODULE ARGUMENTS… runs go test in a module and books each of its tests.
go_tests() {
	local name=$1 module=$2 report=$PWD/.ci/report.mjs from=$SECONDS status=0 ok=0 bad=0
	shift 2
	printf '\n== %s\n' "$name"
	(cd "$module" && go test -json "$@" 2>&1) | node "$report" "$scratch/counts" || status=1
	if [ -e "$scratch/counts" ]; then
		read -r ok bad <"$scratch/counts"
		rm "$scratch/counts"
	fi
	if [ $status != 0 ] && [ "$bad" = 0 ]; then
		bad=1 # it did not get as far as a test
	fi
	passed=$((passed + ok))
	failed=$((failed + bad))
	if [ "$bad" != 0 ]; then
		failures+=("$name")
		printf -- '-- %s: %d FAILED, %d s\n' "$name" "$bad" $((SECONDS - from))
	else
		printf -- '-- %s: ok, %d s\n' "$name" $((SECONDS - from))
	fi
}

# install COMMAND PACKAGE… makes sure that COMMAND exists. Daemons that packages bring are not started: the tests start their own, and
# port 80 may be somebody's.
install() {
	local command=$1 root=()
	shift
	command -v "$command" >/dev/null && return
	if [ "$(id -u)" != 0 ]; then
		root=(sudo -n)
	fi
	if ! command -v apt-get >/dev/null || ! "${root[@]}" true 2>/dev/null; then
		echo "missing: $command. Install it (Debian: apt-get install $*) and start again." >&2
		exit 1
	fi
	echo "installing $*"
	if [ ! -e "$scratch/updated" ]; then
		"${root[@]}" apt-get update -qq
		touch "$scratch/updated"
	fi
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive policy=/usr/sbin/policy-rc.d sh -c '
		if [ ! -e "$policy" ]; then
			trap "rm -f $policy" EXIT
			trap "exit 1" HUP INT TERM
			printf "#!/bin/sh\nexit 101\n" >"$policy"
			chmod 755 "$policy"
		fi
		apt-get install -y -qq --no-install-recommends "$@" >/dev/null' install "$@"
}

# modules_of installs the npm packages that the tests of a folder need, if they are not those of its lock.
modules_of() {
	cmp -s "$1/package-lock.json" "$1/node_modules/.sluice-lock" && return
	(cd "$1" && npm ci --silent)
	cp "$1/package-lock.json" "$1/node_modules/.sluice-lock"
}

prepare() {
	local command
	PATH=$PATH:/usr/sbin # where Debian has proxies, and not everybody looks
	for command in go node npm; do
		command -v "$command" >/dev/null || {
			echo "missing: $command. Go 1.26 (or 1.21, which fetches it) and Node 20 with npm are the two things to have." >&2
			exit 1
		}
	done
	install gcc gcc libc6-dev
	install redis-server redis-server
	export CGO_ENABLED=1 SLUICE_REQUIRE_REDIS=1
	if [ "$mode" != jaeger ]; then
		install promtool prometheus
		export SLUICE_REQUIRE_PROMTOOL=1 SLUICE_REQUIRE_PROMETHEUS=1
	fi
	if [ "$mode" != jaeger ]; then
		export SLUICE_REQUIRE_CLIENT=1
		modules_of e2e/client
	fi
	if [ "$mode" = all ]; then
		if [ -z "${CHROMIUM-}" ] && ! command -v chromium-browser google-chrome >/dev/null; then
			install chromium chromium
		fi
		if [ -z "${FIREFOX-}" ] && ! command -v firefox >/dev/null; then
			install firefox-esr firefox-esr
		fi
		for command in nginx haproxy apache2 caddy; do
			install "$command" "$command"
		done
		export SLUICE_REQUIRE_BROWSER=1 SLUICE_REQUIRE_FIREFOX=1 SLUICE_REQUIRE_PROXIES=1
		export PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 PUPPETEER_SKIP_DOWNLOAD=1
		modules_of e2e/browser
	fi
	go mod download
}

# jaeger has a Jaeger ready for the tests, which fail without one.
jaeger() {
	export SLUICE_REQUIRE_JAEGER=1
	[ -n "${SLUICE_JAEGER-}" ] || SLUICE_JAEGER=$(e2e/jaeger/build.sh) || return
	export SLUICE_JAEGER
}

formatted() {
	local files
	files=$(gofmt -l .)
	[ -z "$files" ] || {
		printf 'not formatted (gofmt -w):\n%s\n' "$files"
		return 1
	}
}

# in_modules COMMAND… runs a command in each Go module of the repository.
in_modules() {
	local module status=0
	for module in "${modules[@]}"; do
		(cd "$module" && "$@") || status=1
	done
	return $status
}

# vulnerable reports code that reaches a known vulnerability, in any module. Its database is on the network (vuln.go.dev, or what
# GOVULNDB names): without it nothing is known, which is said and is no failure.
vulnerable() {
	local module out code status=0
	GOBIN=$scratch go install "$govulncheck" || return
	for module in "${modules[@]}"; do
		code=0
		out=$(cd "$module" && "$scratch/govulncheck" -db "${GOVULNDB-https://vuln.go.dev}" ./... 2>&1) || code=$?
		case "$code" in
		0) ;;
		3) # findings; run by go run it would be 1
			printf 'in %s:\n%s\n' "$module" "$out"
			status=1
			;;
		*)
			if grep -q '^govulncheck: fetching vulnerabilities: ' <<<"$out"; then
				printf 'NOT CHECKED: the database of vulnerabilities could not be read: %s\n' "$(tail -n 1 <<<"$out")"
				return
			fi
			printf 'in %s:\n%s\n' "$module" "$out"
			status=1
			;;
		esac
	done
	return $status
}

# scripts checks the syntax of what browsers get; tests of it are started by the Go tests of static/.
scripts() {
	local file status=0
	for file in static/*.js e2e/browser/*.mjs e2e/client/*.mjs .ci/*.mjs; do
		node --input-type=module --check <"$file" || {
			echo "in $file"
			status=1
		}
	done
	return $status
}

# fuzz_targets lists PACKAGE NAME of each fuzz function.
fuzz_targets() {
	go test -list '^Fuzz' ./... | awk '/^Fuzz/ { names[n++] = $1 } /^(ok|FAIL|\?)/ { for (i = 0; i < n; i++) print $2, names[i]; n = 0 }'
}

fuzz_all() {
	local targets package name
	targets=$(fuzz_targets)
	[ -n "$targets" ] || return 0
	while read -r package name; do
		step "fuzz $name in $package" fuzz "$package" "$name"
	done <<<"$targets"
}

fuzz() {
	local out
	# A crasher is left in testdata/fuzz: fix it and commit it.
	out=$(go test -run '^$' -fuzz "^$2\$" -fuzztime "${fuzz_runs}x" "$1" </dev/null 2>&1) || {
		echo "$out"
		return 1
	}
	grep -o 'execs: [0-9]*' <<<"$out" | tail -n 1 || true
}

all() {
	local module packages
	step "gofmt" formatted
	step "go vet" in_modules go vet ./...
	step "staticcheck" in_modules go run "$staticcheck" ./...
	step "known vulnerabilities" vulnerable
	step "JavaScript syntax" scripts
	mapfile -t packages < <(go list ./... | grep -v '/e2e$')
	go_tests "tests" . -race -shuffle=on -timeout 5m "${packages[@]}"
	for module in "${modules[@]:1}"; do
		go_tests "tests in $module" "$module" -race -shuffle=on -timeout 5m ./...
	done
	if [ "$mode" = quick ]; then
		go_tests "end to end, without browsers, proxies and Jaeger" . -race -timeout 15m -skip '^Test(Browser|Jaeger|Proxies)' ./e2e
		return
	fi
	step "Jaeger" jaeger
	go_tests "end to end" . -race -timeout 15m ./e2e
	fuzz_all
}

prepare
if [ "$mode" = jaeger ]; then
	step "Jaeger" jaeger
	go_tests "traces in Jaeger" . -race -timeout 5m -run '^TestJaeger' ./e2e
else
	all
fi

echo
for name in "${failures[@]}"; do
	echo "failed: $name"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
