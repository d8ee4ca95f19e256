package transport

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice/broker"
	"sluice/broker/memory"
)

// Whatever somebody posts as an acknowledgement is answered with a code of the table.
func FuzzAck(f *testing.F) {
	for _, body := range []string{
		`{"session":"AAAAAAAAAAAAAAAA","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`,
		`{"session":1}`, `{"session":"`, ``, `null`, `[]`, `{"session":"AAAAAAAAAAAAAAAA","traceparent":"00-"}`,
	} {
		f.Add(body)
	}
	c := DefaultConfig()
	c.Access = everyone{}
	s, err := New(broker.New(memory.New(memory.DefaultConfig()), broker.Options{}), c, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.poller.file.Close() })
	f.Fuzz(func(t *testing.T, body string) {
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/ack", strings.NewReader(body)))
		switch w.Code {
		case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge:
		default:
			t.Fatalf("%q is answered %d %s", body, w.Code, w.Body)
		}
	})
}
