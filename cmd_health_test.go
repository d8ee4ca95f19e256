package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLocalURL(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{nil, "http://127.0.0.1:8080"},
		{[]string{"--dev"}, "http://127.0.0.1:8080"},
		{[]string{"--listen=0.0.0.0:9000"}, "http://127.0.0.1:9000"},
		{[]string{"--listen=[::]:9000"}, "http://[::1]:9000"},
		{[]string{"--listen=192.0.2.1:9000"}, "http://192.0.2.1:9000"},
		{[]string{"--listen=node.example:80"}, "http://node.example:80"},
		{[]string{"--tls-cert=c", "--tls-key=k"}, "https://127.0.0.1:8080"},
		{[]string{"--listen=:0"}, "listen has port 0, which is another one at each start; say where the node is by --url"},
	}
	for _, tt := range tests {
		l, err := loadText(t, "", nil, tt.args...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := localURL(&l.Config)
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestHealth(t *testing.T) {
	n := startNode(t)
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	defer sick.Close()
	elsewhere := httptest.NewServer(http.RedirectHandler(n.base+"/healthz", http.StatusFound))
	defer elsewhere.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"by settings", []string{"--listen", n.Addr().String()}, 0, ""},
		{"by URL", []string{"--url", n.base}, 0, ""},
		{"by URL with a slash", []string{"--url", n.base + "/"}, 0, ""},
		{"sick", []string{"--url", sick.URL}, 1, "is not well: 500 Internal Server Error out of order"},
		{"redirected", []string{"--url", elsewhere.URL}, 1, "is not well: 302 Found"},
		{"gone", []string{"--url", gone.URL}, 1, "can't reach " + gone.URL + ": connect: connection refused"},
		{"no URL", []string{"--url", "localhost"}, 1, `--url "localhost" is not the URL of a node`},
		{"bad setting: docker reserves 2", []string{"--heartbeat", "1"}, 1, "heartbeat (flag --heartbeat)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, errs, code := shell(t, "", append([]string{"health"}, tt.args...)...)
			if code != tt.code || !strings.Contains(errs, tt.want) || tt.want == "" && errs != "" {
				t.Errorf("exit code %d, %q; want %d, %q", code, errs, tt.code, tt.want)
			}
		})
	}
}
