#!/usr/bin/env bash
# Builds the Jaeger that the tests read traces back from, and prints the path of the binary. It is kept in the
# user's cache, by version and platform, so that other clones have it, too; then this takes no time.
#
# From source, since a Go module is all that it needs: some 5 minutes of two cores, 1.3 GB of modules, 85 MB of
# binary. The binary has no user interface; the tests ask its API.
set -euo pipefail

version=v2.13.0 # the same commit is v1.76.0 as a Go module, and has both commands
module=github.com/jaegertracing/jaeger
release=v1.76.0
sum=h1:sWCOOF1dr+NL0PLil7mFo3BqqQL8k4WiM7aguFbc14g= # of the module; its go.sum has those of all others

cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
binary=$cache/jaeger-$version-$(go env GOOS)-$(go env GOARCH)

if [ -x "$binary" ]; then
	echo "$binary"
	exit
fi

mkdir -p "$cache"
scratch=$(mktemp -d "$cache/building.XXXXXX") # beside the binary: who else builds at this time has another one
trap 'rm -rf "$scratch"' EXIT

echo "building Jaeger $version, once; it takes some minutes" >&2
cd "$scratch" # outside of our module
about=$(GOWORK=off GONOSUMDB=$module go mod download -json "$module@$release")
field() { sed -n "s/^[[:space:]]*\"$1\": \"\(.*\)\",\{0,1\}$/\1/p" <<<"$about"; }
if [ "$(field Sum)" != "$sum" ]; then
	echo "$module@$release has the checksum $(field Sum), want $sum" >&2
	exit 1
fi
# Within the module's directory, or go would not heed the replacements of its go.mod.
cd "$(field Dir)"
CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false nice -n 10 go build -trimpath -ldflags='-s -w' -o "$scratch/jaeger" ./cmd/jaeger
mv "$scratch/jaeger" "$binary" # in one step
echo "$binary"
