package otel

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	for _, v := range os.Environ() { // the variables of whoever runs the tests
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") {
			os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m)
}

// setenv sets NAME=VALUE variables, and returns after the test to what there was.
func setenv(t *testing.T, variables ...string) {
	t.Helper()
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
}

// start starts what these variables want, until the test ends at the latest.
func start(t *testing.T, log *slog.Logger, variables ...string) *Telemetry {
	t.Helper()
	setenv(t, variables...)
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	tel, err := Start(t.Context(), Options{Log: log, Node: "node-1", Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tel.Shutdown(t.Context()) })
	return tel
}
