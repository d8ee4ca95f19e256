package main

import (
	"testing"
	"time"
)

func TestMaskURL(t *testing.T) {
	tests := []struct{ url, want string }{
		{"", ""},
		{"redis://localhost:6379", "redis://localhost:6379"},
		{"redis://localhost:6379/2", "redis://localhost:6379/2"},
		{"redis://app:hunter2@localhost:6379/2", "redis://app:***@localhost:6379/2"},
		{"rediss://:hunter2@localhost", "rediss://:***@localhost"},
		{"redis://app@localhost", "redis://app@localhost"},
		{"redis://app:@localhost", "redis://app:***@localhost"},
		{"redis://app:hun/ter2@localhost", "***"},
		{"redis://app:hun@ter2@localhost", "redis://app:***@localhost"},
		{"redis://app:hun%zzter2@localhost", "***"},
		{"redis:hunter2@localhost", "***"},
		{"redis://h:6379?password=hunter2", "redis://h:6379?***"},
		{"redis://app:11/hunter2@localhost", "***"},
		{"redis://app:11#hunter2@localhost", "***"},
		{"redis://app:11?hunter2@localhost", "***"},
		{"redis://app:hunter2@11/hunter2@localhost", "***"},
		{"unix://app:hunter2@/run/redis.sock", "unix://app:***@/run/redis.sock"},
	}
	for _, tt := range tests {
		if got := maskURL(tt.url); got != tt.want {
			t.Errorf("maskURL(%q): got %q, want %q", tt.url, got, tt.want)
		}
	}
}

func TestBytes(t *testing.T) {
	tests := []struct {
		text string
		n    int64
		back string
	}{
		{"0", 0, "0"},
		{"1", 1, "1"},
		{"1000", 1000, "1000"},
		{"1024", 1024, "1KiB"},
		{"64KiB", 64 << 10, "64KiB"},
		{"64 KiB", 64 << 10, "64KiB"},
		{"1536KiB", 1536 << 10, "1536KiB"},
		{"1024KiB", 1 << 20, "1MiB"},
		{"2GiB", 2 << 30, "2GiB"},
		{"7B", 7, "7"},
	}
	for _, tt := range tests {
		n, err := parseBytes(tt.text)
		if err != nil || n != tt.n {
			t.Errorf("parseBytes(%q): got %d, %v, want %d", tt.text, n, err, tt.n)
		}
		if got := formatBytes(n); got != tt.back {
			t.Errorf("formatBytes(%d): got %q, want %q", n, got, tt.back)
		}
	}
	for _, text := range []string{"", "B", "KiB", "-1", "-1KiB", "1.5MiB", "1kb", "0x10", "1_000", "8589934592GiB"} {
		if n, err := parseBytes(text); err == nil {
			t.Errorf("parseBytes(%q): got %d, want an error", text, n)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{0, "0"},
		{1500 * time.Millisecond, "1.5s"},
		{10 * time.Second, "10s"},
		{5 * time.Minute, "5m"},
		{90 * time.Second, "1m30s"},
		{time.Hour, "1h"},
		{90 * time.Minute, "1h30m"},
		{time.Hour + time.Second, "1h0m1s"},
		{720 * time.Hour, "720h"},
		{10 * time.Minute, "10m"},
	}
	for _, tt := range tests {
		got := formatDuration(tt.d)
		if got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
		if back, err := time.ParseDuration(got); err != nil || back != tt.d {
			t.Errorf("%q is read as %v, %v, want %v", got, back, err, tt.d)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"serve", "publish", "tail", "config", "health", "version", "help"}
	tests := []struct{ word, want string }{
		{"pubish", "publish"},
		{"PUBLISH", "publish"},
		{"tial", "tail"},
		{"conf", "config"},
		{"x", ""},
		{"subscribe", ""},
		{"publishing-and-more", "publish"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := nearest(tt.word, words); got != tt.want {
			t.Errorf("nearest(%q): got %q, want %q", tt.word, got, tt.want)
		}
	}
}
