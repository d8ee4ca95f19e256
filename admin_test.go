package main

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAdminAPI(t *testing.T) {
	f := newSettingsFile(t, fast)
	n := startNode(t, "--dev", "--admin=127.0.0.1:0", "--config", f.path)
	base := "http://" + n.AdminAddr().String()
	want := `{"channel":"a","pattern":"a","deliver":{"rate":"10/s"}}` + "\n"
	if status, got := get(t, http.DefaultClient, base+"/admin/policy?channel=a"); status != http.StatusOK || got != want {
		t.Errorf("got %d %s, want 200 %s", status, got, want)
	}
	if status, got := get(t, http.DefaultClient, base+"/"); status != http.StatusOK || !strings.Contains(got, "admin.js") {
		t.Errorf("the page: %d %.100s", status, got)
	}
	if status, got := get(t, http.DefaultClient, base+"/admin/stats"); status != http.StatusOK || !strings.Contains(got, `"measured":true`) {
		t.Errorf("without metrics: %d %s, want what was measured", status, got)
	}
	if status, _ := get(t, http.DefaultClient, n.base+"/admin/drops"); status != http.StatusNotFound {
		t.Errorf("where clients connect, the admin API answers %d, want 404", status)
	}
	if status, _ := get(t, http.DefaultClient, base+"/sse?channel=a"); status != http.StatusNotFound {
		t.Errorf("where operators ask, /sse answers %d, want 404", status)
	}
	if _, errs, code := shell(t, "", "--listen=127.0.0.1:0", "--admin", n.AdminAddr().String()); code != exitError || !strings.Contains(errs, "admin ("+n.AdminAddr().String()+"): ") {
		t.Errorf("a port that is taken: exit code %d, %s", code, errs)
	}
	n.stop()
	n.wait(t)
	if c, err := net.DialTimeout("tcp", n.AdminAddr().String(), time.Second); err == nil {
		c.Close()
		t.Error("the admin API still listens after the node has ended")
	}
	if closed := startNode(t); closed.AdminAddr() != nil {
		t.Error("the admin API is open by default")
	}
}

func TestAnnounceAdmin(t *testing.T) {
	tests := []struct {
		addr  *net.TCPAddr
		lines int
		want  string
	}{
		{nil, 0, ""},
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, 1, "address=127.0.0.1:1"},
		{&net.TCPAddr{IP: net.IPv6loopback, Port: 1}, 1, "address=[::1]:1"},
		{&net.TCPAddr{IP: net.IPv4zero, Port: 1}, 2, `level=WARN msg="ADMIN API WITHOUT AUTHENTICATION`},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, 2, "address=10.0.0.1:1"},
	}
	for _, tt := range tests {
		var log strings.Builder
		announceAdmin(slog.New(slog.NewTextHandler(&log, nil)), tt.addr)
		if got := log.String(); strings.Count(got, "\n") != tt.lines || !strings.Contains(got, tt.want) {
			t.Errorf("%v: want %d lines with %q, got\n%s", tt.addr, tt.lines, tt.want, got)
		}
	}
}
