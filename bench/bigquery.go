package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-98920119/tocsin/bench/gen"
	"github.com/seed-98920119/tocsin/runtime/bigquery/double"
)

const bigqueryYAML = `
input: { file_lines: { paths: [DIR/EMPTYbigquery.jsonl] } }
buffer:
  detect:
    name: bigquery
    state: DIR/state-bigquery
    streams: { logins: { match: { path: "*" }, fields: { source_ip: ip, username: string, country: string }, time: { field: login_time }, watermark: { strict: true } } }
    operators:
      rule: OPERATOR
output:
  bigquery_rows: { project: proj-a, dataset: d, table: t, create: true, endpoint: "URL", grpc_endpoint: "STORAGE", WRITE }
`

// The two pipelines: a window that is nearly a row an event, with columns of four types, and events that are passed on as one text.
const (
	bigqueryWindows = `{ window: { from: logins, tumbling: 1s, key: [source_ip, username, country], aggregate: { attempts: count } } }`
	bigqueryPassed  = `{ filter: { from: logins, where: { username|exists: true } } }`
)

// benchBigquery measures what a row takes of a core from a file to BigQuery's double, which runs in this process, beside the one that is measured.
func benchBigquery() error {
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	binary := filepath.Join(*dir, "tocsin")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %s", out)
	}
	f, err := os.Create(path("bigquery.jsonl"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := (gen.Logins{Seed: *seed, Events: *events / 4}).Write(f); err != nil {
		return err
	}
	if err := os.WriteFile(path("empty-bigquery.jsonl"), nil, 0o644); err != nil {
		return err
	}
	fmt.Printf("\n| file -> detect -> bigquery_rows -> double in another process | CPU ns a row | rows a CPU-s | peak RSS MB | rows | must be |\n|---|---|---|---|---|---|\n")
	for _, c := range []struct{ name, operator, write, must string }{
		{"windows, 6 columns and the metadata, storage", bigqueryWindows, "write: storage", ">= 100000 rows a CPU-s"},
		{"windows, exactly_once", bigqueryWindows, "write: exactly_once, offsets: DIR/bigquery.offsets, batching: { count: 2000, period: 200ms }", ""},
		{"events as text, storage", bigqueryPassed, "write: storage", ">= 100000 rows a CPU-s"},
		{"events as text, exactly_once", bigqueryPassed, "write: exactly_once, offsets: DIR/bigquery.offsets, batching: { count: 2000, period: 200ms }", ""},
	} {
		if err := bigqueryRow(binary, c.name, strings.NewReplacer("OPERATOR", c.operator, "WRITE", c.write).Replace(bigqueryYAML), c.must); err != nil {
			return err
		}
	}
	return nil
}

func bigqueryRow(binary, name, yaml, must string) error {
	var best time.Duration
	var rows, rss int64
	for i := range *runs {
		say("run %d of %d: %s", i+1, *runs, name)
		s := double.New()
		s.Discard = true
		r := pipelineRow(binary, "bigquery", *events/4, "280MiB", strings.NewReplacer("URL", s.URL, "STORAGE", s.Storage).Replace(yaml))
		err := r.measure()
		rows = s.Count()
		s.Close()
		if err != nil {
			return err
		}
		if best == 0 || r.cpu < best {
			best = r.cpu
		}
		rss = max(rss, r.rss)
	}
	ns := float64(best.Nanoseconds()) / float64(rows)
	fmt.Printf("| %s | %.0f | %.0f | %.0f | %d | %s |\n", name, ns, 1e9/ns, float64(rss)/1024, rows, must)
	return nil
}
