package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"time"
)

const (
	watchInterval = time.Second
	// settleTime is how long a changed file has to stay as it is. Who writes into it, rather than renaming another one
	// over it, empties it first: for a moment there would be no rules.
	settleTime = 100 * time.Millisecond
	// coarsest is the resolution of the coarsest clock of a file system: in this time a file may change and keep its time.
	coarsest = 2 * time.Second
)

// watch follows the settings file and puts its channels in force when they change; other settings need a restart. A file that
// can't be used changes nothing.
//
// The file is looked up by its name each time, never kept open: editors rename another one over it, and config maps swap a
// symbolic link to its directory. Notifications of the system would have to follow all of that, too, and do not work on
// every file system; a look costs some microseconds.
type watch struct {
	program *Program
	sources *sources
	hangup  chan os.Signal // whatever comes has the file read at once

	// Owned by run.
	seen  content     // what was last put in force or refused
	next  *content    // what is there now, if it is something else and may still be being written
	info  os.FileInfo // of the file when it was last read
	taken time.Time   // when that was
}

// content is what a look at the file finds: its text, or why there is none.
type content struct {
	text []byte
	err  string
}

func (c content) equal(d content) bool { return c.err == d.err && bytes.Equal(c.text, d.text) }

// newWatch returns a watch over the file that l was loaded from, nil if there is none or if it is no file but a pipe,
// say: what that had is gone, and a second look would take it for an empty file, or wait for ever.
func newWatch(p *Program, l *Loaded) *watch {
	path := l.sources.path.text
	if path == "" {
		return nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil
	}
	return &watch{program: p, sources: l.sources, seen: content{text: l.text}, hangup: make(chan os.Signal, 1)}
}

// run looks at the file until ctx ends.
func (w *watch) run(ctx context.Context) {
	timer := time.NewTimer(watchInterval)
	defer timer.Stop()
	for {
		wait := watchInterval
		select {
		case <-ctx.Done():
			return
		case <-w.hangup: // whoever asks for it wants an answer, also if nothing has changed
			w.take(w.read())
		case <-timer.C:
			wait = w.look()
		}
		timer.Reset(wait)
	}
}

// look takes the file if it has changed, and returns when to look again.
func (w *watch) look() time.Duration {
	if w.next == nil && w.untouched() {
		return watchInterval
	}
	switch now := w.read(); {
	case now.equal(w.seen):
		w.next = nil
	case w.next == nil || !now.equal(*w.next):
		w.next = &now
		return settleTime
	default:
		w.take(now)
	}
	return watchInterval
}

// untouched reports whether the file is surely the one that was read.
func (w *watch) untouched() bool {
	info, err := os.Stat(w.sources.path.text)
	return err == nil && w.info != nil && os.SameFile(info, w.info) && info.Size() == w.info.Size() &&
		info.ModTime().Equal(w.info.ModTime()) && w.taken.Sub(info.ModTime()) > coarsest
}

func (w *watch) read() content {
	w.taken = time.Now()
	w.info, _ = os.Stat(w.sources.path.text) // reading says what is wrong
	if w.info != nil && !w.info.Mode().IsRegular() {
		return content{err: fmt.Sprintf("config (%s): %s is not a regular file; name a YAML file", w.sources.path.from, w.sources.path.text)}
	}
	text, err := w.sources.read()
	if err != nil {
		return content{err: err.Error()}
	}
	return content{text: text}
}

// take puts what was read in force, or says why not.
func (w *watch) take(now content) {
	w.seen, w.next = now, nil
	p, file := w.program, w.sources.path.text
	l, err := w.load(now)
	if err == nil {
		err = p.apply(l.Config.Channels, l.Config.Access.APIKeys)
	}
	if err != nil {
		p.log.Error("settings file can't be used: what was in force stays so", "file", file, "err", err)
		trouble := "settings file can't be used, and what was in force stays so: " + err.Error()
		p.trouble.Store(&trouble)
		return
	}
	p.trouble.Store(nil)
	p.log.Info("channels reloaded", "file", file, "rules", len(l.Config.Channels), "api_keys", len(l.Config.Access.APIKeys))
	if names := changed(w.sources.table, p.config, &l.Config); len(names) > 0 {
		p.log.Warn("settings have changed that are read at the start only; restart to apply them", "file", file, slog.Any("settings", names))
	}
}

func (w *watch) load(now content) (*Loaded, error) {
	if now.err != "" {
		return nil, errors.New(now.err)
	}
	return w.sources.load(now.text)
}

// changed returns the names of the settings in which a and b differ. Their values, some of them secret, stay here.
func changed(table []setting, a, b *Config) (names []string) {
	for i := range table {
		if s := &table[i]; !reflect.DeepEqual(s.field(a), s.field(b)) {
			names = append(names, s.name)
		}
	}
	return names
}
