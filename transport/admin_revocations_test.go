package transport

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice/broker"
)

// administer asks the admin API as a tool on the same machine would.
func (n *node) administer(method, path, contentType, body string) (int, string) {
	n.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	n.Admin().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestAdminRevocations(t *testing.T) {
	n, d := newGuarded(t, nil)
	const as = "application/json"
	for _, row := range []struct {
		name, contentType, body string
		status                  int
		contains                string
	}{
		{"nothing", as, `{}`, 400, "name one of token"},
		{"two", as, `{"token":"a","subject":"b"}`, 400, "name one of token"},
		{"no JSON", as, `{"token"`, 400, "not a revocation"},
		{"more", as, `{"token":"a"}{}`, 400, "something follows"},
		{"unknown field", as, `{"jti":"a"}`, 400, "unknown field"},
		{"control character", as, `{"subject":"a\nb"}`, 400, "printed"},
		{"too long", as, `{"subject":"` + strings.Repeat("a", 600) + `"}`, 400, "at most 512"},
		{"too large", as, `{"subject":"` + strings.Repeat("a", maxRevoke) + `"}`, 400, ""},
		{"no duration", as, `{"token":"a","for":"1"}`, 400, "for is a duration"},
		{"in the past", as, `{"token":"a","for":"-1h"}`, 400, "for is a duration"},
		{"as a form can send it", "text/plain", `{"token":"a"}`, 415, "application/json"},
		{"token", as, `{"token":"t-1"}`, 201, `"token":"t-1"`},
		{"session", as, `{"session":"5JX0q8sQb3o1T9aE","for":"1m"}`, 201, `"session"`},
	} {
		if status, body := n.administer("POST", "/admin/revocations", row.contentType, row.body); status != row.status || !strings.Contains(body, row.contains) {
			t.Errorf("%s: %d %s, want %d and %q", row.name, status, body, row.status, row.contains)
		}
	}
	c := n.listen("sse", "channel=news&"+d.issue("a", "alice", time.Hour, "news"))
	if status, body := n.administer("GET", "/admin/sessions?subject=alice", "", ""); status != http.StatusOK ||
		!strings.Contains(body, c.welcome.Session) || !strings.Contains(body, `"subject":"alice"`) || !strings.Contains(body, `"expires":"`) || !strings.Contains(body, `"total":1`) {
		t.Errorf("her sessions: %d %s", status, body)
	}
	if _, body := n.administer("GET", "/admin/sessions?subject=bob", "", ""); !strings.Contains(body, `"total":0`) {
		t.Errorf("his: %s", body)
	}
	if status, body := n.administer("POST", "/admin/revocations", as, `{"subject":"alice"}`); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	if code := c.gone(); code != TokenRevoked {
		t.Errorf("gone with %q", code)
	}
	status, body := n.administer("GET", "/admin/revocations?limit=2", "", "")
	if status != 200 || !strings.Contains(body, `"total":3,"truncated":true`) || !strings.Contains(body, "alice") || strings.Contains(body, "t-1") {
		t.Errorf("the newest two: %d %s", status, body)
	}
	if !n.broker.Revoked("t-1", "", time.Now()) || len(n.broker.Revocations()) != 3 || n.broker.Revocations()[0].Kind != broker.ByToken {
		t.Errorf("in force: %+v", n.broker.Revocations())
	}
}
