//go:build race

package e2e

// buildFlags build the program as the tests are built: a race in it ends up in its log, which fails the test.
var buildFlags = []string{"-race"}
