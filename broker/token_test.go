package broker

import (
	"fmt"
	"strings"
	"testing"
)

func TestToken(t *testing.T) {
	const now = 1795426843459
	for _, tt := range []struct {
		name     string
		channels int
		spread   uint64 // ms between the oldest and the newest position
		seq      uint64
		most     int // characters
	}{
		{"one channel", 1, 0, 0, 20},
		{"one channel, many a millisecond", 1, 0, 120, 20},
		{"ten channels within a second", 10, 1000, 0, 150},
		{"ten channels within a day", 10, 86_400_000, 0, 150},
		{"ten busy channels within a day", 10, 86_400_000, 90, 150},
		{"64 channels within a day", 64, 86_400_000, 3, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var places []Place
			for i := range tt.channels {
				at := now - tt.spread*uint64(i)/uint64(max(tt.channels-1, 1))
				places = append(places, Place{fmt.Sprintf("channel.%d", i), Position{MS: at, Seq: tt.seq, Tag: uint16(i * 777)}})
			}
			text := string(AppendToken(nil, places...))
			if len(text) > tt.most {
				t.Errorf("%d characters, want at most %d", len(text), tt.most)
			}
			t.Logf("%d characters", len(text))
			token, err := ParseToken(text)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range places {
				if got := token.Of(p.Channel); got != p.Position {
					t.Errorf("%s: got %v, want %v", p.Channel, got, p.Position)
				}
			}
			if got := token.Of("another"); !got.IsZero() {
				t.Errorf("a channel that is not in the token: got %v", got)
			}
		})
	}
	if got := AppendToken([]byte("x"), Place{Channel: "a"}); string(got) != "x" {
		t.Errorf("a token of no positions: got %q, want nothing", got)
	}
}

func TestParseTokenRefuses(t *testing.T) {
	good := string(AppendToken(nil, Place{"a", Position{MS: 1795426843459, Seq: 3, Tag: 1}}))
	for _, tt := range []struct{ name, text string }{
		{"empty", ""},
		{"not base64", "no token!"},
		{"padded", good + "="},
		{"another version", "Ag" + good[2:]},
		{"cut short", good[:len(good)-3]},
		{"only a head", good[:10]},
		{"too long", strings.Repeat("A", maxToken+1)},
		{"a position", "1795426843459-0-9f3c"},
		{"line break", good[:4] + "\n" + good[4:]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tok, err := ParseToken(tt.text); err == nil {
				t.Errorf("ParseToken(%q) = %v, want an error", tt.text, tok)
			}
		})
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(string(AppendToken(nil, Place{"a", Position{MS: 1795426843459, Seq: 3, Tag: 1}}, Place{"b", Position{MS: 1795426843000, Tag: 9}})))
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err != nil {
			return
		}
		for h, p := range tok {
			if p.MS == 0 || p.MS > maxMS || h > 0xffffff {
				t.Fatalf("ParseToken(%q): position %+v of channel %x is out of range", s, p, h)
			}
		}
	})
}

func FuzzParsePosition(f *testing.F) {
	f.Add("1795426843459-0-9f3c")
	f.Add("1-18446744073709551615-ffff")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePosition(s)
		if err != nil {
			return
		}
		if q, err := ParsePosition(p.String()); err != nil || q != p {
			t.Fatalf("%q: %v does not survive its text: %v, %v", s, p, q, err)
		}
	})
}

func TestParsePosition(t *testing.T) {
	if p, err := ParsePosition("1795426843459-7-9f3c"); err != nil || p != (Position{1795426843459, 7, 0x9f3c}) {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, s := range []string{"", "-", "1-2", "1-2-", "1-2-3", "+1-2-0000", "1_0-2-0000", "0-0-0000", "1-2-zzzz", "1-2-00000",
		"281474976710656-0-0000", "18446744073709551616-0-0000", "$", "0-0", " 1-2-0000"} {
		if p, err := ParsePosition(s); err == nil {
			t.Errorf("ParsePosition(%q) = %v, want an error", s, p)
		}
	}
}

func TestCheckChannel(t *testing.T) {
	for _, ok := range []string{"a", "news", "prices.AAPL", "user:42/inbox", "A_b-c~d@e", strings.Repeat("x", MaxChannel)} {
		if err := CheckChannel(ok); err != nil {
			t.Errorf("CheckChannel(%q) = %v", ok, err)
		}
	}
	for _, tt := range []struct{ name, why string }{
		{"", "empty"},
		{strings.Repeat("x", MaxChannel+1), "too long"},
		{"a b", "space"}, {"a\nb", "line feed"}, {"a\x00", "NUL"}, {"news*", "Redis pattern"}, {"[a]", "Redis pattern"}, {"a?", "Redis pattern"},
		{`a\b`, "Redis pattern"}, {"{a}", "steers the Cluster slot"}, {"naïve", "not ASCII"}, {"a\u2028", "Unicode line break"}, {"\xff", "not UTF-8"},
		{"__keyspace@0__:a", "Redis tells its keys there"}, {"__keyevent@0__:set", "Redis tells its keys there"},
		{"a,b", "looks like a list"}, {"a#b", "would be a URL fragment"},
	} {
		if err := CheckChannel(tt.name); err == nil {
			t.Errorf("CheckChannel(%q) = nil, want an error: %s", tt.name, tt.why)
		}
	}
}
