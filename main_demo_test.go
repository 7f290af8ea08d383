package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The demo, shortened: logs to alerts to an index, a warehouse, a topic and a firewall, with a crash in between. It counts by itself,
// and fails if anything is missing or there twice.
func TestIntegrationDemo(t *testing.T) {
	if !*integration {
		t.Skip("needs real servers, hence a JDK and Maven: make integration, or make demo")
	}
	out, err := exec.Command("go", "run", "./demo", "-seconds", "60").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "all of it once, and nothing twice") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
