package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/broker/redistest"
)

// TestPasswordIsNeverShown looks for the password of Redis in everything that a node and the commands say while Redis
// refuses it, and while the node refuses Redis' certificate.
func TestPasswordIsNeverShown(t *testing.T) {
	const secret = "hunter2"
	open := redistest.Start(t)
	if err := open.Client().ConfigSet(t.Context(), "requirepass", "another").Err(); err != nil {
		t.Fatal(err)
	}
	authority, stranger := redistest.NewTLS(t), redistest.NewTLS(t)
	secure := redistest.StartTLS(t, authority)
	for _, tt := range []struct {
		name string
		args []string
		want string // in the log
	}{
		{"wrong password", []string{"--redis=redis://default:" + secret + "@" + open.Addr()}, "WRONGPASS"},
		{"wrong user", []string{"--redis=redis://nobody:" + secret + "@" + open.Addr() + "/0?read_timeout=1s"}, "WRONGPASS"},
		{"wrong authority", []string{"--redis=rediss://default:" + secret + "@" + secure.Addr(), "--redis-ca", stranger.CA}, "certificate signed by unknown authority"},
		{"nobody there", []string{"--redis=redis://default:" + secret + "@127.0.0.1:1"}, "connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"--dev", "--listen=127.0.0.1:0", "--publish-wait=200ms", "--drain-time=0", "--log-level=debug", "--access-log"}, tt.args...)
			said := speak(t, args, regexp.MustCompile("msg=.redis Pub/Sub connection lost.*"+tt.want))
			for _, command := range []string{"config", "help"} {
				out, errs, _ := shell(t, "", append([]string{command}, tt.args...)...)
				said += out + errs
			}
			if !strings.Contains(said, "default:***@") && !strings.Contains(said, "nobody:***@") {
				t.Errorf("the URL is not shown at all, so this test looks at the wrong place:\n%s", said)
			}
			if i := strings.Index(said, secret); i >= 0 {
				t.Errorf("the password is shown: …%s", said[max(0, i-200):min(len(said), i+100)])
			}
		})
	}
}

// speak runs a node until its log matches, asks it for what may tell of Redis, and returns all that it said.
func speak(t *testing.T, args []string, want *regexp.Regexp) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], append([]string{"serve"}, args...)...)
	cmd.Env = []string{asProgram + "=1"}
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); write.Close() }()
	listening := regexp.MustCompile(`msg=listening address=(\S+)`)
	var said bytes.Buffer
	base, found := "", false
	for buf := make([]byte, 4096); !found || base == ""; {
		n, err := read.Read(buf)
		said.Write(buf[:n])
		if m := listening.FindStringSubmatch(said.String()); m != nil {
			base = "http://" + m[1]
		}
		found = want.MatchString(said.String())
		if err != nil {
			t.Fatalf("ended without %s:\n%s", want, said.String())
		}
	}
	rest := make(chan []byte, 1)
	go func() { b, _ := io.ReadAll(read); rest <- b }()
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	var answers bytes.Buffer
	for _, path := range []string{"/readyz", "/publish/news", "/sse?channel=news"} {
		method := http.MethodGet
		if path == "/publish/news" {
			method = http.MethodPost
		}
		req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		if path == "/sse?channel=news" {
			client.Timeout = 300 * time.Millisecond // it stays open: Redis may come
		}
		res, err := client.Do(req)
		if err != nil {
			continue
		}
		if path != "/sse?channel=news" && res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: got %s, want 503", path, res.Status)
		}
		b, _ := io.ReadAll(res.Body) // what has come when the time is over
		res.Body.Close()
		answers.Write(b)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := <-ended; err != nil {
		t.Errorf("the node ended with %v", err)
	}
	return said.String() + string(<-rest) + answers.String()
}
