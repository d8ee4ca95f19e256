package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of what an answer may say.
const (
	maxReason      = 200 // characters
	maxExpiresIn   = 365 * 24 * 3600
	maxRate        = 1e6
	maxConnections = 1_000_000
)

// denied is what a caller is told when a backend gives no reason.
const denied = "the backend does not allow it"

// answer is what a backend said, checked. It is immutable, and the same for all who ask the same.
type answer struct {
	refusal     *Error // nil: it allows
	subject     string // "", 0 and nil: it does not say
	subscribe   Patterns
	publish     Patterns
	rate        float64
	connections int
	noHistory   bool
	trace       bool
	asked       time.Time
	expires     time.Time
	channels    []string // of a question about channels: those that are allowed, sorted
	size        int      // bytes as it was sent
}

func (a *answer) decision() *Decision {
	return &Decision{Claims: Claims{
		Subject: a.subject, Expires: a.expires, Subscribe: slices.Clone(a.subscribe), Publish: slices.Clone(a.publish),
		Rate: a.rate, Connections: a.connections, NoHistory: a.noHistory, Trace: a.trace,
	}}
}

// rawAnswer is an answer as JSON has it. A field that is not there is nil.
type rawAnswer struct {
	version     *int
	allow       *bool
	reason      *string
	subject     *string
	subscribe   *[]string
	publish     *[]string
	rate        *float64
	connections *int
	history     *bool
	trace       *bool
	expiresIn   *int64
	channels    *[]string
}

// field returns where the value of a name goes; nil for a name that is unknown.
func (r *rawAnswer) field(name string) any {
	switch name {
	case "version":
		return &r.version
	case "allow":
		return &r.allow
	case "reason":
		return &r.reason
	case "subject":
		return &r.subject
	case "subscribe":
		return &r.subscribe
	case "publish":
		return &r.publish
	case "rate":
		return &r.rate
	case "connections":
		return &r.connections
	case "history":
		return &r.history
	case "trace":
		return &r.trace
	case "expires_in":
		return &r.expiresIn
	case "channels":
		return &r.channels
	}
	return nil
}

// decode reads one JSON object strictly. What is unknown, twice or null is an error: a name that is misspelt could be the one that
// limits. encoding/json alone would take Allow for allow, and of two the second.
func (r *rawAnswer) decode(text []byte) error {
	if len(text) > maxAnswer {
		return fmt.Errorf("it has more than %d bytes", maxAnswer)
	}
	if !utf8.Valid(text) {
		return errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("it is not a JSON object")
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, is := t.(string)
		if err != nil || !is {
			return errors.New("it is not a JSON object")
		}
		to := r.field(name)
		switch {
		case to == nil:
			return fmt.Errorf("nothing is called %.40q", name)
		case seen[name]:
			return fmt.Errorf("%s is there twice", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return errors.New("it is not a JSON object")
		}
		if err := json.Unmarshal(value, to); err != nil || hasNull(value) {
			return fmt.Errorf("%s has a value of the wrong type", name)
		}
	}
	if _, err := d.Token(); err != nil {
		return errors.New("it is not a JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

// hasNull reports whether a value is null or an array with null in it, which encoding/json takes for a string that is empty.
func hasNull(value json.RawMessage) bool {
	if string(value) == "null" {
		return true
	}
	var list []json.RawMessage
	return json.Unmarshal(value, &list) == nil && slices.ContainsFunc(list, func(v json.RawMessage) bool { return string(v) == "null" })
}

// parseAnswer reads the answer to a question that was asked at a time.
func parseAnswer(text []byte, q *question, asked time.Time) (*answer, error) {
	var r rawAnswer
	if err := r.decode(text); err != nil {
		return nil, err
	}
	if r.version != nil && *r.version != webhookVersion {
		return nil, fmt.Errorf("its version is not %d", webhookVersion)
	}
	if r.allow == nil {
		return nil, errors.New("it has no allow")
	}
	if !*r.allow {
		return &answer{refusal: refuse(Forbidden, r.refusal()), asked: asked, size: len(text)}, nil
	}
	if err := r.check(q); err != nil {
		return nil, err
	}
	a := &answer{noHistory: r.history != nil && !*r.history, trace: is(r.trace), asked: asked, size: len(text)}
	a.subject, a.rate, a.connections = is(r.subject), is(r.rate), is(r.connections)
	a.subscribe, a.publish = is(r.subscribe), is(r.publish)
	if r.expiresIn != nil {
		a.expires = asked.Add(time.Duration(*r.expiresIn) * time.Second)
	}
	if a.channels = q.Channels; r.channels != nil {
		a.channels = *r.channels
		slices.Sort(a.channels)
	}
	return a, nil
}

// is returns what a pointer points to; the zero value for nil.
func is[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// refusal returns a reason that a client may be shown: it goes into headers, close frames and terminals.
func (r *rawAnswer) refusal() string {
	reason := is(r.reason)
	if n := utf8.RuneCountInString(reason); n == 0 || n > maxReason || strings.ContainsFunc(reason, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return denied
	}
	return reason
}

// check returns what is wrong with an answer that allows.
func (r *rawAnswer) check(q *question) error {
	if q.Action == "connect" {
		if r.channels != nil {
			return errors.New("channels belong to subscribe")
		}
	} else if r.subject != nil || r.subscribe != nil || r.publish != nil || r.rate != nil || r.connections != nil || r.history != nil || r.trace != nil {
		return errors.New("about subscribe it may only say allow, reason, channels and expires_in")
	}
	if s := r.subject; s != nil && (*s == "" || len(*s) > maxSubject || strings.IndexFunc(*s, unicode.IsControl) >= 0) {
		return fmt.Errorf("subject is not 1 to %d bytes without control characters", maxSubject)
	}
	if v := r.rate; v != nil && !(*v > 0 && *v <= maxRate) {
		return errors.New("rate is not more than 0 and at most a million")
	}
	if v := r.connections; v != nil && (*v < 1 || *v > maxConnections) {
		return errors.New("connections is not between 1 and a million")
	}
	if v := r.expiresIn; v != nil && (*v < 1 || *v > maxExpiresIn) {
		return errors.New("expires_in is not between 1 second and a year")
	}
	if err := CheckPatterns(is(r.subscribe)); err != nil {
		return errors.New("subscribe has something in it that is no pattern, or too many")
	}
	if err := CheckPatterns(is(r.publish)); err != nil {
		return errors.New("publish has something in it that is no pattern, or too many")
	}
	for _, ch := range is(r.channels) {
		if _, asked := slices.BinarySearch(q.Channels, ch); !asked {
			return errors.New("channels has one that was not asked for")
		}
	}
	return nil
}
