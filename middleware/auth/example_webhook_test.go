package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/middleware/auth"
)

// authorize answers Sluice's questions: visitors may read news, alice what is hers.
func authorize(secret []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		t, sum, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Sluice-Signature"), "t="), ",v1=")
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(t + "." + string(body)))
		sent, _ := strconv.ParseInt(t, 10, 64)
		if got, _ := hex.DecodeString(sum); !hmac.Equal(got, mac.Sum(nil)) || time.Since(time.Unix(sent, 0)).Abs() > 5*time.Minute {
			http.Error(w, "not from Sluice", http.StatusBadRequest)
			return
		}
		var q struct{ Action, Subject string }
		switch err := json.Unmarshal(body, &q); {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		case q.Action == "connect" && q.Subject == "alice":
			fmt.Fprint(w, `{"allow":true,"subscribe":["news","user:{sub}:*"],"expires_in":3600}`)
		case q.Action == "connect":
			fmt.Fprint(w, `{"allow":true,"subscribe":["news"]}`)
		default:
			fmt.Fprint(w, `{"allow":false,"reason":"there is nothing else to read"}`)
		}
	}
}

func ExampleWebhook() {
	secret := "0123456789abcdef0123456789abcdef"
	backend := httptest.NewServer(authorize([]byte(secret)))
	defer backend.Close()
	w, err := auth.NewWebhook(auth.WebhookConfig{URL: backend.URL, Secret: secret})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close()
	alice := &auth.Caller{Transport: "ws", Who: auth.Identity{Subject: "alice"}}
	d, err := w.Connect(context.Background(), alice)
	fmt.Println(d.Subscribe, err)
	_, err = w.Subscribe(context.Background(), alice, []string{"secrets"})
	fmt.Println(err)
	// Output:
	// [news user:{sub}:*] <nil>
	// forbidden: there is nothing else to read
}

// TestExampleBackend: the backend of the manual is the one above, and takes nothing that is not signed, changed or old.
func TestExampleBackend(t *testing.T) {
	source, err := os.ReadFile("example_webhook_test.go")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	code := string(source)
	code = code[strings.Index(code, "// authorize answers"):strings.Index(code, "\nfunc ExampleWebhook")]
	if !strings.Contains(string(manual), "```go\n"+strings.TrimSpace(code)+"\n```") {
		t.Error("docs/security.md has another backend than this file")
	}
	const body = `{"action":"connect","subject":"alice"}`
	sign := func(secret string, at time.Time, body string) string {
		mac := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
		return fmt.Sprintf("t=%d,v1=%x", at.Unix(), mac.Sum(nil))
	}
	for _, tt := range []struct {
		name, signature string
		status          int
	}{
		{"signed", sign("secret", time.Now(), body), 200},
		{"by somebody else", sign("other", time.Now(), body), 400},
		{"another body", sign("secret", time.Now(), "{}"), 400},
		{"old", sign("secret", time.Now().Add(-time.Hour), body), 400},
		{"not signed", "", 400},
		{"nonsense", "t=,v1=zz", 400},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Sluice-Signature", tt.signature)
		w := httptest.NewRecorder()
		authorize([]byte("secret"))(w, r)
		if w.Code != tt.status {
			t.Errorf("%s: got %d, want %d", tt.name, w.Code, tt.status)
		}
	}
}
