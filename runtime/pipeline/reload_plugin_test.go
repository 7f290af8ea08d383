package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/engine"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// reloadable counts logins that are many, by a module and by conditions of its own, and says of both what they said.
const reloadable = `
name: reloaded
state: s
streams: { s: { match: { path: "*" }, time: { field: t, format: epoch_ms } } }
operators:
  few: { filter: { from: s, where: { ip|endswith: ".7" } } }
  many:
    plugin: { from: s, module: MODULE, fields: { login_attempts: n, source_ip: ip }, config: { threshold: THRESHOLD }, limits: { fuel_per_call: FUEL } }
  shells:
    plugin: { from: s, module: ../../plugins/encoded_powershell/encoded_powershell.wasm, fields: { process.command_line: cmd } }
`

const bruteForce = "../../plugins/brute_force/brute_force.wasm"

func reloadText(module string, threshold, fuel int) string {
	return strings.NewReplacer("MODULE", module, "THRESHOLD", fmt.Sprint(threshold), "FUEL", fmt.Sprint(fuel)).Replace(reloadable)
}

func node(t testing.TB, text string) *yaml.Node {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	return n.Content[0]
}

func quiet() *service.Logger { return service.MockResources().Logger() }

// loginLines are lines with a number of attempts, some of them with a command.
func loginLines(r *rand.Rand, n int) (lines []string, attempts []int) {
	for i := range n {
		a := r.IntN(40)
		cmd := "ls"
		if r.IntN(50) == 0 {
			cmd = "powershell -enc SQBFAFgASQBFAFgASQBFAFgA"
		}
		attempts = append(attempts, a)
		lines = append(lines, fmt.Sprintf(`{"t":%d,"i":%d,"n":%d,"ip":"10.0.0.%d","cmd":"%s"}`, 1_772_000_000_000+i, i, a, r.IntN(20), cmd))
	}
	return lines, attempts
}

// ran runs lines in so many pieces, and does something after each; it returns what was said by id.
func ran(t *testing.T, conf *Config, lines []string, pieces int, between func(i int, run *engine.Runner)) (rows map[string]string, rep *engine.Report) {
	t.Helper()
	run := startEngine(t, conf, engine.Options{Shards: 2, BlockRows: 300})
	rows = map[string]string{}
	var taking sync.WaitGroup
	taking.Go(func() {
		for {
			out, err := run.Next(context.Background())
			if err != nil {
				return
			}
			for _, o := range out {
				id := o.ID.String()
				if _, twice := rows[id]; twice {
					t.Errorf("%s is said twice", id)
				}
				rows[id] = fmt.Sprint(o.Kind, o.Operator, o.Reason, string(o.Payload))
			}
			run.Settle(out, nil)
		}
	})
	run.Push(announced("f"))
	for i := range pieces {
		from, to := i*len(lines)/pieces, (i+1)*len(lines)/pieces
		run.Push(linesBlock("f", from, lines[from:to]))
		between(i, run)
	}
	run.Push(&event.Block{Partition: "f", Meta: map[string]string{"path": "f"}, Mark: event.Finished})
	run.End(true)
	taking.Wait()
	rep, err := run.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rows, rep
}

// The same module, loaded anew ten times while rows come, says what it says without: nothing is lost, and nothing said twice.
func TestReloadUnderLoad(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	lines, _ := loginLines(rand.New(rand.NewPCG(seed, 1)), 30_000)
	first := reloadText(bruteForce, 30, 1_000_000)
	want, _ := ran(t, decodedDetect(t, first), lines, 11, func(int, *engine.Runner) {})
	conf := decodedDetect(t, first)
	var r *reloader
	got, rep := ran(t, conf, lines, 11, func(i int, run *engine.Runner) {
		if r == nil {
			r = newReloader(conf, run, quiet())
		}
		if i < 10 {
			r.again(node(t, reloadText(bruteForce, 30, 1_000_001+i)))
		}
	})
	if !maps.Equal(got, want) || len(want) < 5000 {
		t.Fatalf("seed %d: %d rows, %d without", seed, len(got), len(want))
	}
	p := rep.Operators[1].Plugin
	if p.Generation != 10 || p.Refused != 0 || p.Counts.Rows != int64(len(lines)) || rep.Operators[2].Plugin.Generation != 0 {
		t.Errorf("seed %d: %+v", seed, p)
	}
}

// Another configuration holds from the position on that the replacement says, for every row and for none before.
func TestReloadConfig(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	lines, attempts := loginLines(rand.New(rand.NewPCG(seed, 1)), 20_000)
	conf := decodedDetect(t, reloadText(bruteForce, 10, 1_000_000))
	thresholds, from := []int{10}, []int64{0} // and the position after which each holds
	var r *reloader
	rows, _ := ran(t, conf, lines, 9, func(i int, run *engine.Runner) {
		if r == nil {
			r = newReloader(conf, run, quiet())
			r.replace = func(ctx context.Context, next *engine.Operator, place int) (int64, time.Duration, error) {
				at, pause, err := run.Replace(ctx, next, place)
				from = append(from, at)
				return at, pause, err
			}
		}
		if i < 8 {
			thresholds = append(thresholds, 10+3*((i+1)%2))
			r.again(node(t, reloadText(bruteForce, thresholds[i+1], 1_000_000)))
		}
	})
	if len(from) != 9 {
		t.Fatalf("seed %d: %d replacements", seed, len(from)-1)
	}
	hits := map[int]bool{}
	for _, row := range rows {
		var x struct{ I int }
		if text, ok := strings.CutPrefix(row, "rowmany"); ok && json.Unmarshal([]byte(text), &x) == nil {
			hits[x.I] = true
		}
	}
	differ := 0
	for i, n := range attempts {
		k := 0
		for k+1 < len(from) && from[k+1] < int64(i+2) { // the announcement has position 1
			k++
		}
		if hits[i] != (n >= thresholds[k]) {
			t.Fatalf("seed %d: line %d, %d attempts: a hit is %v, with threshold %d; %v", seed, i, n, hits[i], thresholds[k], from)
		}
		if n >= 10 && n < 13 {
			differ++
		}
	}
	if differ < 1000 {
		t.Errorf("seed %d: %d lines tell the thresholds apart", seed, differ)
	}
}

// What cannot take the place of a running plugin is refused, with an alert that says why, and the old one goes on.
func TestReloadRefused(t *testing.T) {
	dir := t.TempDir()
	good, err := os.ReadFile(bruteForce)
	if err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(dir, "rule.wasm")
	write := func(b []byte) {
		if err := os.WriteFile(module, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	text := reloadText(module, 30, 1_000_000)
	lines, _ := loginLines(rand.New(rand.NewPCG(1, 1)), 5000)
	conf := decodedDetect(t, text)
	powershell, err := os.ReadFile("../../plugins/encoded_powershell/encoded_powershell.wasm")
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		module     []byte
		text, want string
	}{
		{[]byte("no module"), text, "is no WebAssembly"},
		{good[:len(good)/2], text, ""},
		{powershell, text, `unknown key "login_attempts" in fields`},
		{powershell, strings.Replace(strings.Replace(text, "config: { threshold: 30 }, ", "", 1), "{ login_attempts: n, source_ip: ip }", "{ process.command_line: unread }", 1), "reads unread, which nothing in this run reads"},
		{good, strings.Replace(text, "threshold: 30", "threshold: none", 1), "threshold"},
		{good, strings.Replace(text, "config: { threshold: 30 }", "digest: sha256:"+strings.Repeat("0", 64), 1), "not the module that was asked for"},
		{good, strings.Replace(text, "config: { threshold: 30 }", "config: { threshold: 30 }, suppress: { for: 2h }", 1), "other operators"},
		{good, strings.Replace(text, "many:\n    plugin: { from: s", "many:\n    plugin: { from: few", 1), "other sources"},
	}
	var refused []string
	want, _ := ran(t, decodedDetect(t, text), lines, 9, func(int, *engine.Runner) {})
	rows, rep := ran(t, conf, lines, 9, func(i int, run *engine.Runner) {
		if i >= len(cases) {
			return
		}
		r := newReloader(conf, run, quiet())
		r.refuse = func(op string, place int, plugin, digest string, why error) {
			if op != "many" || !strings.Contains(why.Error(), cases[i].want) {
				t.Errorf("case %d: %s %s is refused: %v; want %s", i, op, plugin, why, cases[i].want)
			}
			refused = append(refused, fmt.Sprint(i))
			run.Refuse(op, place, plugin, digest, why)
		}
		write(cases[i].module)
		r.again(node(t, cases[i].text))
		write(good)
	})
	alerts := 0
	for id, row := range rows {
		if _, ok := want[id]; ok {
			continue
		}
		var a healthAlert
		if err := json.Unmarshal([]byte(row[strings.Index(row, "{"):]), &a); err != nil || a.Rule.ID != "tocsin.health/reload" || a.Title != "Plugin tocsin.brute-force 1.0.0 of operator many could not be replaced" {
			if a.Title != "Plugin tocsin.encoded-powershell 1.1.0 of operator many could not be replaced" {
				t.Errorf("%v: %s", err, row)
			}
		}
		alerts++
	}
	if alerts != len(refused) || len(rows) != len(want)+alerts || rep.Operators[1].Plugin.Refused != int64(alerts) || rep.Operators[1].Plugin.Generation != 0 {
		t.Errorf("%d alerts, refused %v; %+v", alerts, refused, rep.Operators[1].Plugin)
	}
	if strings.Join(refused, " ") != "0 1 2 3 4 5 6 7" {
		t.Errorf("refused %v", refused)
	}
}

// A file with `reload` that has changed takes the place of the old one by itself, and one that is broken does not.
func TestReloadByItself(t *testing.T) {
	module := filepath.Join(t.TempDir(), "rule.wasm")
	replace := func(from string) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(module, append(b, 0, 1, 0), 0o600); err != nil { // an empty custom section: another digest
			t.Fatal(err)
		}
	}
	replace("../../plugins/encoded_powershell/encoded_powershell.wasm")
	if b, err := os.ReadFile(module); err != nil || os.WriteFile(module, b[:len(b)-3], 0o600) != nil {
		t.Fatal(err)
	}
	conf := decodedDetect(t, strings.ReplaceAll(reloadText(bruteForce, 30, 1_000_000), "../../plugins/encoded_powershell/encoded_powershell.wasm", module+", reload: 1s"))
	run := startEngine(t, conf, engine.Options{Shards: 2})
	r := newReloader(conf, run, quiet())
	for i := range conf.plugins {
		if conf.plugins[i].every > 0 {
			conf.plugins[i].every = 5 * time.Millisecond
		}
	}
	stop := r.watch()
	defer stop()
	wait := func(what string, done func(p *engine.PluginReport) bool) {
		t.Helper()
		for range 2000 {
			rep, err := run.Report(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if done(rep.Operators[2].Plugin) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("%s does not come", what)
	}
	replace("../../plugins/encoded_powershell/encoded_powershell.wasm")
	wait("the new module", func(p *engine.PluginReport) bool { return p.Generation == 1 && p.Refused == 0 })
	replace("reload_plugin_test.go")
	wait("the refusal", func(p *engine.PluginReport) bool { return p.Generation == 1 && p.Refused == 1 })
}

const counted = `
name: counted
state: s
streams: { s: { match: { path: "*" }, time: { field: t, format: epoch_ms } } }
operators:
  count: { plugin: { from: s, module: MODULE, fields: { FIELD: ip }, limits: { fuel_per_call: FUEL } } }
`

// A plugin that counts by key goes on counting when it is replaced by itself; by one that keeps something else it is not replaced.
func TestReloadKeepsState(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	lines, _ := loginLines(rand.New(rand.NewPCG(seed, 1)), 50_000)
	text := func(module, field string, fuel int) string {
		return strings.NewReplacer("MODULE", module, "FIELD", field, "FUEL", fmt.Sprint(fuel)).Replace(counted)
	}
	const counter, first, moved = "../../bench/rules/counter.wasm", "../engine/testdata/moved/first.wasm", "../engine/testdata/moved/moved.wasm"
	want, _ := ran(t, decodedDetect(t, text(counter, "key", 100_000_000)), lines, 6, func(int, *engine.Runner) {})
	conf := decodedDetect(t, text(counter, "key", 100_000_000))
	var r *reloader
	got, rep := ran(t, conf, lines, 6, func(i int, run *engine.Runner) {
		if r == nil {
			r = newReloader(conf, run, quiet())
		}
		r.again(node(t, text(counter, "key", 100_000_001+i)))
	})
	if p := rep.Operators[0].Plugin; !maps.Equal(got, want) || len(want) != 80 || p.Generation != 6 || p.Counts.StateBytes == 0 { // 20 addresses, 2 500 rows each: two hits, each a row and an alert
		t.Errorf("seed %d: %d rows, %d without; %+v", seed, len(got), len(want), p)
	}
	conf = decodedDetect(t, text(first, "k", 100_000_000))
	var why error
	ran(t, conf, lines[:100], 1, func(_ int, run *engine.Runner) {
		r := newReloader(conf, run, quiet())
		r.refuse = func(_ string, _ int, _, _ string, err error) { why = err }
		r.again(node(t, text(moved, "k", 100_000_000)))
	})
	if why == nil || !strings.Contains(why.Error(), "state.version") {
		t.Errorf("another state: %v", why)
	}
}
