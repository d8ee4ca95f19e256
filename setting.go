package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind says how a setting's text is read.
type kind string

const (
	kindString   kind = "string"
	kindBool     kind = "bool"
	kindInt      kind = "int"
	kindNumber   kind = "number" // may have a fraction
	kindBytes    kind = "bytes"  // 65536, 64KiB, 1MiB, 2GiB
	kindDuration kind = "duration"
	kindList     kind = "list" // separated by commas; in the file also a list
	kindEnum     kind = "enum"
)

// setting is one row of the table. Its flag is --name, its variable SLUICE_NAME, its file key name.
type setting struct {
	name     string
	group    string // heading in the manual
	kind     kind
	unit     string             // of an int or number
	min, max int64              // range of an int, number, bytes or duration (nanoseconds)
	options  []string           // of an enum
	secret   bool               // never shown as it is
	isURL    bool               // a secret of which all but the password may be shown
	check    func(string) error // grammar of a string, or of each item of a list; the error is the fix
	text     string             // what it does, for the manual
	field    func(*Config) any  // where it goes: a pointer of the kind's type
}

// env returns the name of the setting's environment variable.
func (s *setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// parse reads text as the setting's kind and checks it. The error is a sentence without subject or source.
func (s *setting) parse(text string) (any, error) {
	switch s.kind {
	case kindBool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, s.refuse(text, "is neither true nor false", "use true or false")
		}
		return b, nil
	case kindInt:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, s.refuse(text, "is not a whole number", "use "+s.span())
		}
		return int(n), s.within(text, n)
	case kindNumber:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f != f {
			return nil, s.refuse(text, "is not a number", "use "+s.span())
		}
		if f < float64(s.min) || f > float64(s.max) {
			return nil, s.refuse(text, "is out of range", "use "+s.span())
		}
		return f, nil
	case kindBytes:
		n, err := parseBytes(text)
		if err != nil {
			return nil, s.refuse(text, "is not a number of bytes", "write 65536, 64KiB or 1MiB")
		}
		return int(n), s.within(text, n)
	case kindDuration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, s.refuse(text, "is not a duration", "write it with its unit, such as 500ms, 10s or 5m")
		}
		return d, s.within(text, int64(d))
	case kindEnum:
		if !slices.Contains(s.options, text) {
			return nil, s.refuse(text, "is not a choice", "use "+strings.Join(s.options, " or "))
		}
		return text, nil
	case kindList:
		return s.parseList(text)
	}
	if s.check != nil {
		if err := s.check(text); err != nil {
			return nil, s.refuse(text, "can't be used", err.Error())
		}
	}
	return text, nil
}

func (s *setting) parseList(text string) (any, error) {
	var items []string // nil without any, as defaults are
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		if err := s.check(item); err != nil {
			return nil, s.refuse(item, "can't be used", err.Error())
		}
		items = append(items, item)
	}
	return items, nil
}

func (s *setting) within(text string, n int64) error {
	if n < s.min || n > s.max {
		return s.refuse(text, "is out of range", "use "+s.span())
	}
	return nil
}

// refuse words an error: what is wrong with text, and the fix. A secret is not repeated.
func (s *setting) refuse(text, wrong, fix string) error {
	shown := strconv.Quote(text)
	if s.secret {
		shown = "the value"
	}
	return fmt.Errorf("%s %s; %s", shown, wrong, fix)
}

// span names the range of a kind that has one, "" for others.
func (s *setting) span() string {
	switch s.kind {
	case kindInt, kindNumber:
		return fmt.Sprintf("%d to %d", s.min, s.max)
	case kindBytes:
		return formatBytes(s.min) + " to " + formatBytes(s.max)
	case kindDuration:
		return formatDuration(time.Duration(s.min)) + " to " + formatDuration(time.Duration(s.max))
	case kindEnum:
		return strings.Join(s.options, ", ")
	}
	return ""
}

// set stores a value that parse returned.
func (s *setting) set(c *Config, value any) {
	switch p := s.field(c).(type) {
	case *string:
		*p = value.(string)
	case *bool:
		*p = value.(bool)
	case *int:
		*p = value.(int)
	case *float64:
		*p = value.(float64)
	case *time.Duration:
		*p = value.(time.Duration)
	case *[]string:
		*p = value.([]string)
	}
}

// show returns the setting's value in c as text that parse reads, but for secrets, which are masked.
func (s *setting) show(c *Config) string {
	switch p := s.field(c).(type) {
	case *bool:
		return strconv.FormatBool(*p)
	case *int:
		if s.kind == kindBytes {
			return formatBytes(int64(*p))
		}
		return strconv.Itoa(*p)
	case *float64:
		return strconv.FormatFloat(*p, 'f', -1, 64)
	case *time.Duration:
		return formatDuration(*p)
	case *[]string:
		return strings.Join(*p, ",")
	case *string:
		switch {
		case s.secret && s.isURL:
			return maskURL(*p)
		case s.secret && *p != "":
			return "***"
		}
		return *p
	}
	return ""
}

// maskURL replaces the password of a URL by three stars, and everything if it can't tell where the
// password is.
func maskURL(s string) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || afterHost(u, "@") {
		return "***"
	}
	shown := u.Scheme + "://"
	if u.User != nil {
		shown += url.User(u.User.Username()).String()
		if _, set := u.User.Password(); set {
			shown += ":***"
		}
		shown += "@"
	}
	shown += u.Host + u.EscapedPath()
	if u.RawQuery != "" {
		// Clients take options here, some of them secret in one version or another.
		shown += "?***"
	}
	return shown
}

// afterHost reports whether a URL has s in its host or after it. An @ there is the one that ends a password with a /, ?
// or # in it, so that what looks like host or path is a part of the password.
func afterHost(u *url.URL, s string) bool {
	return strings.Contains(u.Host+u.Path+u.RawQuery+u.Fragment, s)
}

var byteUnits = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func parseBytes(text string) (int64, error) {
	digits, size := text, int64(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			digits, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > (1<<62)/size {
		return 0, errors.New("out of range")
	}
	return n * size, nil
}

func formatBytes(n int64) string {
	for _, u := range byteUnits {
		if u.size > 1 && n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// formatDuration writes 5m for what String writes as 5m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if s == "0s" {
		return "0"
	}
	return s
}
