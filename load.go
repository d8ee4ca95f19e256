package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

const (
	envPrefix  = "SLUICE_"
	configFlag = "config"
	configEnv  = envPrefix + "CONFIG"
)

// usageError is a mistake in what the user wrote: exit code 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// Loaded is a Config and where each of its settings came from.
type Loaded struct {
	Config  Config
	from    map[string]string // by name: "flag --dev", "SLUICE_DEV", "sluice.yaml:3"; defaults are absent
	sources *sources
	text    []byte // of the settings file
}

// From says where a setting came from.
func (l *Loaded) From(name string) string {
	if from, ok := l.from[name]; ok {
		return from
	}
	return "default"
}

// entry is the text of a setting and the place where it stands.
type entry struct{ text, from string }

// layer is one source of settings: entries by name.
type layer map[string]entry

// sources are the places where settings come from. The file among them can be read again.
type sources struct {
	table []setting
	env   layer
	flags layer
	path  entry // of the settings file; its text is "" if there is none
}

// load reads flags (parsed already), environment and file, in that order of precedence, over the
// defaults. What is wrong anywhere is an error, even where something stronger overrides it.
func load(flags *pflag.FlagSet, env []string) (*Loaded, error) {
	s := &sources{table: settings()}
	var err error
	if s.env, s.path, err = envLayer(s.table, env); err != nil {
		return nil, err
	}
	if f := flags.Lookup(configFlag); f.Changed {
		s.path = entry{f.Value.String(), "flag --" + configFlag}
	}
	s.flags = flagLayer(s.table, flags)
	text, err := s.read()
	if err != nil {
		return nil, err
	}
	return s.load(text)
}

// load puts the settings together, with the given text of the file.
func (s *sources) load(text []byte) (*Loaded, error) {
	l := &Loaded{Config: DefaultConfig(), from: map[string]string{}, sources: s, text: text}
	fromFile, lists, err := parseFile(s.table, s.path.text, text)
	if err != nil {
		return nil, err
	}
	l.Config.Channels, l.Config.Access.APIKeys = lists.channels, lists.apiKeys
	values := koanf.New(".")
	for _, entries := range []layer{fromFile, s.env, s.flags} {
		if err := l.merge(values, s.table, entries); err != nil {
			return nil, err
		}
	}
	for i := range s.table {
		if row := &s.table[i]; values.Exists(row.name) {
			row.set(&l.Config, values.Get(row.name))
		}
	}
	l.develop()
	if err := l.Config.check(); err != nil {
		return nil, &usageError{err}
	}
	if err := fitRings(l.Config.Channels, l.Config.RingMessages); err != nil {
		return nil, err
	}
	return l, nil
}

// merge checks the entries of a layer and lays them over values.
func (l *Loaded) merge(values *koanf.Koanf, table []setting, entries layer) error {
	parsed := map[string]any{}
	for i := range table {
		s := &table[i]
		e, ok := entries[s.name]
		if !ok {
			continue
		}
		v, err := s.parse(e.text)
		if err != nil {
			return usagef("%s (%s): %w", s.name, e.from, err)
		}
		parsed[s.name], l.from[s.name] = v, e.from
	}
	return values.Load(confmap.Provider(parsed, ""), nil)
}

// develop applies what --dev changes where nothing was said.
func (l *Loaded) develop() {
	if !l.Config.Dev {
		return
	}
	if _, set := l.from["listen"]; !set {
		l.Config.Listen, l.from["listen"] = devListen, "default with dev"
	}
	if _, set := l.from["demo"]; !set {
		l.Config.Transport.Demo, l.from["demo"] = true, "default with dev"
	}
	if _, set := l.from["address-connections"]; !set { // all of a developer's clients come from one
		l.Config.Transport.AddressConnections, l.from["address-connections"] = 0, "default with dev"
	}
}

// flagText keeps a flag's text as it was written, so that all sources are parsed by the same code.
type flagText struct {
	setting *setting
	text    string
	set     bool
}

func (f *flagText) String() string { return f.text }
func (f *flagText) Type() string   { return string(f.setting.kind) }

// Set keeps the last text; that of a list, which may be given several times, is added.
func (f *flagText) Set(text string) error {
	if f.set && f.setting.kind == kindList {
		text = f.text + "," + text
	}
	f.text, f.set = text, true
	return nil
}

// newFlags returns an empty set of flags for a command.
func newFlags(command string) *pflag.FlagSet {
	flags := pflag.NewFlagSet(command, pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {}
	flags.BoolP("help", "h", false, "")
	return flags
}

// addSettings adds a flag for each setting.
func addSettings(flags *pflag.FlagSet) {
	flags.String(configFlag, "", "")
	table := settings()
	for i := range table {
		f := flags.VarPF(&flagText{setting: &table[i]}, table[i].name, "", "")
		if table[i].kind == kindBool {
			f.NoOptDefVal = "true"
		}
	}
}

// errHelp says that the user asked for help with a command.
var errHelp = errors.New("help wanted")

// parseFlags parses args and words what is wrong with them. It returns errHelp for --help.
func parseFlags(flags *pflag.FlagSet, args []string) error {
	err := flags.Parse(args)
	var unknown *pflag.NotExistError
	var bare *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		var names []string
		flags.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		dashes := "--"
		if unknown.GetSpecifiedShortnames() != "" {
			dashes = "-"
			if len(unknown.GetSpecifiedShortnames()) > 1 {
				// -dev: one dash where two were meant.
				name = unknown.GetSpecifiedShortnames()
			}
		}
		return usagef("unknown flag %s%s; %s", dashes, name,
			didYouMean(name, names, "--", fmt.Sprintf("sluice help %s lists them", flags.Name())))
	case errors.As(err, &bare):
		return usagef("flag --%s has no value; write --%s=VALUE", bare.GetSpecifiedName(), bare.GetSpecifiedName())
	case err != nil:
		return usagef("%w; sluice help %s shows how flags are written", err, flags.Name())
	}
	if help, _ := flags.GetBool("help"); help {
		return errHelp
	}
	return nil
}

func flagLayer(table []setting, flags *pflag.FlagSet) layer {
	out := layer{}
	for i := range table {
		if f := flags.Lookup(table[i].name); f != nil && f.Changed {
			out[f.Name] = entry{f.Value.String(), "flag --" + f.Name}
		}
	}
	return out
}

// foreign matches the variables that Kubernetes (and Docker links, once) put into every container
// beside a service whose name begins with sluice, such as SLUICE_SERVICE_HOST. They are not ours.
var foreign = regexp.MustCompile(`^SLUICE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

func isForeign(name, value string) bool {
	return foreign.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}

// envLayer reads the SLUICE_ variables out of env ("NAME=value"). An empty one counts as not set,
// since that is what a composition file makes of a variable that nobody gave a value.
func envLayer(table []setting, env []string) (out layer, path entry, err error) {
	byEnv, known := map[string]string{}, []string{configEnv}
	for i := range table {
		byEnv[table[i].env()] = table[i].name
		known = append(known, table[i].env())
	}
	out = layer{}
	for _, pair := range env {
		key, value, _ := strings.Cut(pair, "=")
		name, ours := byEnv[key]
		switch {
		case !strings.HasPrefix(key, envPrefix) || value == "" || key == tokenEnv:
		case key == configEnv:
			path = entry{value, configEnv}
		case ours:
			out[name] = entry{value, key}
		case !isForeign(key, value):
			return nil, path, usagef("unknown variable %s; %s", key,
				didYouMean(key, known, "", "remove it, or see the settings by sluice help settings"))
		}
	}
	return out, path, nil
}

// maxFile bounds the settings file; a larger one is something else.
const maxFile = 1 << 20

// read returns the text of the settings file, nothing if there is none.
func (s *sources) read() ([]byte, error) {
	path := s.path.text
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err == nil && (info.IsDir() || info.Size() > maxFile) {
		return nil, usagef("config (%s): %s is not a YAML file of at most %s; name the settings file",
			s.path.from, path, formatBytes(maxFile))
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, usagef("config (%s): %w; name a YAML file that can be read", s.path.from, err)
	}
	return text, nil
}

// names returns the settings' names.
func names(table []setting) []string {
	var out []string
	for i := range table {
		out = append(out, table[i].name)
	}
	return out
}
