package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
)

// rulesCount is how many conditions the pipelines of many rules have on one stream.
const rulesCount = 1000

// syllables makes words that logins do not have, but that share many letters in a row with what they do have.
func syllables(r *rand.Rand) string {
	var b strings.Builder
	for range 3 + r.IntN(2) {
		b.WriteString([]string{"mo", "zil", "la", "win", "do", "ws", "user", "lin", "ux", "deb", "ian", "open", "ssh", "cur", "pc", "ver"}[r.IntN(16)])
	}
	return b.String()
}

// condition is one of three conditions of three literals each: a part of a text, all of three fields (some rows have them), one
// of three fields.
func condition(r *rand.Rand, i int) string {
	switch i % 3 {
	case 0:
		return fmt.Sprintf("{ user_agent|contains: [%s, %s, %s] }", syllables(r), syllables(r), syllables(r))
	case 1:
		return fmt.Sprintf("{ username: user%d, status: failure, session_id|startswith: '%02x' }", 1000+r.IntN(9000), 0x80+r.IntN(0x80))
	}
	return fmt.Sprintf("[{ username|endswith: %s }, { source_ip: 10.%d.%d.%d }, { session_id|contains: '%010x' }]",
		syllables(r), r.IntN(256), r.IntN(256), r.IntN(256), r.Uint64N(1<<40))
}

// rulesYAML is a pipeline of many filters on the logins.
func rulesYAML() string {
	r := rand.New(rand.NewPCG(*seed, 3))
	var b strings.Builder
	for i := range rulesCount {
		fmt.Fprintf(&b, "      rule%d: { filter: { from: logins, where: %s } }\n", i, condition(r, i))
	}
	return operatorsYAML("rules", b.String())
}

// pluginsCount is how many plugins the pipeline of plugins has on one stream.
const pluginsCount = 100

// pluginsYAML is a pipeline of plugins on the logins, each with a pattern that lets 1 of 90 through; their modules are written
// beside the data.
func pluginsYAML(binary string) (string, error) {
	var b strings.Builder
	for i := range pluginsCount {
		manifest, module := path("pattern.json"), path(fmt.Sprintf("pattern%d.wasm", i))
		text := fmt.Sprintf(`{"abi": {"major": 1, "minor": 0}, "name": "bench.pattern%d", "version": "1.0.0", "roles": ["detect"],
  "reads": [{"path": "command", "type": "utf8"}, {"path": "user", "type": "utf8"}], "rules": [{"id": 1, "title": "-enc in the command, or user999 in the user"}],
  "patterns": [{"id": 0, "field": 1, "op": "startswith", "values": ["user%d"]}], "when": {"any": [0]}}`, i, 10+i%90)
		if err := os.WriteFile(manifest, []byte(text), 0o644); err != nil {
			return "", err
		}
		if out, err := exec.Command(binary, "plugin", "pack", "-o", module, "--manifest", manifest, "bench/rules/helper.wasm").CombinedOutput(); err != nil {
			return "", fmt.Errorf("plugin pack: %w: %s", err, out)
		}
		fmt.Fprintf(&b, "      rule%d: { plugin: { from: logins, module: %s, fields: { command: user_agent, user: username } } }\n", i, module)
	}
	return operatorsYAML("plugins", b.String()), nil
}
