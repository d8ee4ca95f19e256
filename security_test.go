package main

import (
	"os"
	"strings"
	"testing"
)

// TestHardened: the configuration of the manual loads, is in the manual as it is, and closes what it says.
func TestHardened(t *testing.T) {
	const file = "deploy/hardened.example.yaml"
	out, errs, code := shell(t, "", "config", "--config", file)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(manual), "```yaml\n"+string(text)+"```") {
		t.Errorf("docs/security.md does not have %s as it is", file)
	}
	for _, want := range []string{"dev: false", "demo: false", "jwt-query: false", "origins: ['https://app.example']", "hash: '***'"} {
		if !strings.Contains(out, want) {
			t.Errorf("sluice config does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, strings.Repeat("0", 64)) {
		t.Error("sluice config prints a hash")
	}
}
