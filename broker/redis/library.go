package redis

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

//go:embed lua/core.lua
var coreSource string

//go:embed lua/node.lua
var nodeSource string

//go:embed lua/public.lua
var publicSource string

//go:embed lua/revoke.lua
var revokeSource string

//go:embed lua/revoke_node.lua
var revokeNodeSource string

// Three libraries are loaded. The nodes' two carry their version in their names and are never changed under
// them. The public one has a single name for everybody, so it is replaced, but only by a newer one.
const (
	nodeLibrary   = "sluice_2"
	revokeLibrary = "sluice_revoke_1"
	publicLibrary = "sluice"
	publicVersion = 3 // count it up with every change of core.lua or public.lua
)

// function is one of the nodes' functions: FCALL name, or EVALSHA sha of script where there are no functions.
type function struct {
	name   string
	script string
	sha    string
}

var (
	publishFunction = newFunction("sluice_publish_2", coreSource+"\nreturn publish(KEYS, ARGV)\n")
	readFunction    = newFunction("sluice_read_2", coreSource+"\nreturn read(KEYS, ARGV)\n")
	revokeFunction  = newFunction("sluice_revoke_1", revokeSource+"\nreturn revoke(KEYS, ARGV)\n")
	revokedFunction = newFunction("sluice_revoked_1", revokeSource+"\nreturn revoked(KEYS, ARGV)\n")
	// publicFunction is for strangers on servers without functions: EVALSHA sha 1 CHANNEL PAYLOAD […].
	publicFunction = newFunction("sluice_publish", publicScript())
)

// publicScript makes a script of the public library: what it registers is called at its end.
func publicScript() string {
	return `local registered = {}
local redis = setmetatable({ register_function = function(name, f) if f then registered[name] = f end end }, { __index = redis })
local version = ` + strconv.Itoa(publicVersion) + "\n" + coreSource + publicSource + "\nreturn registered.sluice_publish(KEYS, ARGV)\n"
}

func newFunction(name, script string) function {
	sum := sha1.Sum([]byte(script))
	return function{name: name, script: script, sha: hex.EncodeToString(sum[:])}
}

func nodeLibrarySource() string {
	return "#!lua name=" + nodeLibrary + "\n" + coreSource + nodeSource
}

func publicLibrarySource(version int) string {
	return "#!lua name=" + publicLibrary + "\nlocal version = " + strconv.Itoa(version) + "\n" + coreSource + publicSource
}

func revokeLibrarySource() string {
	return "#!lua name=" + revokeLibrary + "\n" + revokeSource + revokeNodeSource
}

// call calls f, or adds a call of it to a pipeline.
func (b *Backend) call(ctx context.Context, p goredis.Cmdable, f function, keys []string, args ...any) *goredis.Cmd {
	if b.scripts.Load() {
		return p.EvalSha(ctx, f.sha, keys, args...)
	}
	return p.FCall(ctx, f.name, keys, args...)
}

// load puts the functions there if they are missing, or the scripts if the server knows no functions.
// Several may do so at once.
func (b *Backend) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.config.CommandTimeout)
	defer cancel()
	if !b.scripts.Load() {
		err := b.loadNode(ctx)
		if err == nil {
			return b.loadPublic(ctx, publicVersion)
		}
		if !isReply(err) || !unknownCommand(err) {
			return err
		}
		b.log.Info("redis knows no functions: scripts are used; publish with EVALSHA", "sha", publicFunction.sha)
		b.scripts.Store(true)
	}
	return b.loadScripts(ctx)
}

func (b *Backend) loadNode(ctx context.Context) error {
	err := b.client.FCallRO(ctx, "sluice_ready_2", nil).Err()
	if !missing(err) || unknownCommand(err) {
		return err
	}
	err = b.client.FunctionLoad(ctx, nodeLibrarySource()).Err()
	switch {
	case err == nil:
		b.loaded(nodeLibrary)
	case exists(err):
		err = nil
	}
	return err
}

// loadPublic loads the public library unless one of this version or a newer one is there.
func (b *Backend) loadPublic(ctx context.Context, version int) error {
	for try := range 2 {
		there, err := b.client.FCallRO(ctx, "sluice_version", nil).Int()
		switch {
		case err == nil && there >= version:
			return nil
		case err != nil && !missing(err):
			return err
		}
		// Without REPLACE at first: another node may just have loaded a newer one.
		load := b.client.FunctionLoad
		if err == nil || try > 0 {
			load = b.client.FunctionLoadReplace
		}
		err = load(ctx, publicLibrarySource(version)).Err()
		if err == nil {
			b.loaded(publicLibrary)
			return nil
		}
		if !exists(err) || try > 0 {
			return err
		}
	}
	return nil
}

// loadRevocations puts the functions of the revocations there, since a call answered that they are missing.
func (b *Backend) loadRevocations(ctx context.Context, answer error) error {
	ctx, cancel := context.WithTimeout(ctx, b.config.CommandTimeout)
	defer cancel()
	if unknownCommand(answer) { // of functions, maybe: load finds out
		if err := b.load(ctx); err != nil {
			return err
		}
	}
	if b.scripts.Load() {
		return b.putScripts(ctx, revokeFunction, revokedFunction)
	}
	err := b.client.FunctionLoad(ctx, revokeLibrarySource()).Err()
	switch {
	case err == nil:
		b.loaded(revokeLibrary)
	case exists(err):
		err = nil
	}
	return err
}

func (b *Backend) loadScripts(ctx context.Context) error {
	return b.putScripts(ctx, publishFunction, readFunction, publicFunction)
}

func (b *Backend) putScripts(ctx context.Context, functions ...function) error {
	for _, f := range functions {
		known, err := b.client.ScriptExists(ctx, f.sha).Result()
		if err != nil {
			return err
		}
		if known[0] {
			continue
		}
		if err := b.client.ScriptLoad(ctx, f.script).Err(); err != nil {
			return err
		}
		b.loaded(f.name)
	}
	return nil
}

func (b *Backend) loaded(what string) {
	b.stats.Loads.Add(1)
	b.log.Info("loaded into redis", "library", what)
}

// exists reports whether a library could not be loaded because it is there already.
func exists(err error) bool { return isReply(err) && strings.Contains(err.Error(), "already exists") }
