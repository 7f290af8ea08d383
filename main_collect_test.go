package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seed-98920119/tocsin/bench/gen"
)

const collectPipeline = `
input: { file_lines: { paths: ["LOGS/*.log*"], follow: true, poll_interval: 20ms, quiet_after: 300ms, positions: KEPT } }
pipeline:
  threads: 1
  processors:
    - parse: { format: logfmt, fields: { n: int } }
output: { file_rows: { path: ROWS } }
`

// Logs are collected without a detect buffer while the binary is killed again and again: each line is there. Stopped and started instead,
// each is there once.
func TestCollectedWhileKilled(t *testing.T) {
	t.Run("killed", func(t *testing.T) { collectedWhile(t, syscall.SIGKILL) })
	t.Run("stopped", func(t *testing.T) { collectedWhile(t, syscall.SIGTERM) })
}

func collectedWhile(t *testing.T, signal syscall.Signal) {
	times := func(rows string) map[int]int {
		times := map[int]int{}
		for _, line := range strings.SplitAfter(rows, "\n") {
			var row struct{ N *int }
			if strings.HasSuffix(line, "\n") {
				if err := json.Unmarshal([]byte(line), &row); err != nil || row.N == nil {
					t.Fatalf("%v: %s", err, line)
				}
				times[*row.N]++
			}
		}
		return times
	}
	rows, n := grownWhile(t, collectPipeline, signal, func(n int) string { return fmt.Sprint("n=", n) }, func(rows string) int { return len(times(rows)) })
	got, again := times(rows), 0
	for i := range n {
		if got[i] == 0 || got[i] > 1 && signal == syscall.SIGTERM {
			t.Errorf("line %d is there %d times", i, got[i])
		}
		again += max(got[i]-1, 0)
	}
	t.Logf("%d lines, %d again", n, again)
}

var articleTopics = [4]string{"logins", "firewall", "ids", "weblog"}

// onTopics reads the topics' records: by topic, then by the place of the line that a record was. One that is there twice must be the same.
func onTopics(t *testing.T, client *kgo.Client, broker string) (values map[string]map[string]string, twice int) {
	t.Helper()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), articleTopics[:]...)
	if err != nil {
		t.Fatal(err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	reader, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(articleTopics[:]...))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	values = map[string]map[string]string{}
	for _, topic := range articleTopics {
		values[topic] = map[string]string{}
	}
	for left > 0 {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d records cannot be read", left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			at := ""
			for _, h := range r.Headers {
				if h.Key == "position" {
					_, at, _ = strings.Cut(string(h.Value), "@")
				}
			}
			if was, ok := values[r.Topic][at]; ok {
				if twice++; was != string(r.Value) {
					t.Fatalf("%s %s:\n%s\n%s", r.Topic, at, was, r.Value)
				}
			}
			values[r.Topic][at] = string(r.Value)
		})
	}
	return values, twice
}

// articleLine works out what a line must have become, with a regular expression of the test's own; nil: it cannot be read.
func articleLine(t *testing.T, kind int, line string) map[string]any {
	t.Helper()
	if kind == gen.IDSLog {
		var v map[string]any
		if json.Unmarshal([]byte(line), &v) != nil {
			return nil
		}
		return v
	}
	m := map[int]*regexp.Regexp{
		gen.LoginLog:    regexp.MustCompile(`^(?P<timestamp>\S+) (?P<host>\S+) (?P<app>sshd)\[(?P<pid>\d+)\]: (?P<message>(?P<result>\w+) password for (?:invalid user )?(?P<user>\w+) from (?P<ip>[\d.]+) port (?P<port>\d+) ssh2)$`),
		gen.FirewallLog: regexp.MustCompile(`^(?P<timestamp>\S+) (?P<host>\S+) (?P<app>kernel): (?P<message>\[UFW (?P<action>\w+)\] IN=(?P<in>\w+) .* SRC=(?P<src>[\d.]+) DST=(?P<dst>[\d.]+) .* PROTO=(?P<proto>\w+) SPT=(?P<spt>\d+) DPT=(?P<dpt>\d+) .*)$`),
		gen.WebLog:      regexp.MustCompile(`^(?P<client>\S+) - - \[(?P<timestamp>[^]]+)\] "(?P<request>(?P<method>\w+) (?P<path>\S+) (?P<protocol>[^"]+))" (?P<status>\d+) (?P<bytes>\d+) "-" "(?P<agent>.*)"$`),
	}[kind]
	v, found := map[string]any{"raw": line}, m.FindStringSubmatch(line)
	if found == nil {
		return nil
	}
	for i, name := range m.SubexpNames() {
		if slices.Contains([]string{"port", "spt", "dpt", "status", "bytes"}, name) {
			n, err := strconv.ParseFloat(found[i], 64)
			if err != nil {
				t.Fatal(err)
			}
			v[name] = n
		} else if name != "" {
			v[name] = strings.ReplaceAll(found[i], `\"`, `"`)
		}
	}
	if v["message"] != nil {
		v["message"] = found[m.SubexpIndex("message")]
	}
	return v
}

// article is the example of logs of four kinds in a folder of its own.
func article(t *testing.T, dir, broker, file string, change ...string) (pipeline string) {
	t.Helper()
	src, err := os.ReadFile("pipelines/article/" + file)
	if err != nil {
		t.Fatal(err)
	}
	change = append(change, "${KAFKA:127.0.0.1:19092}", broker, "logs/article/", filepath.ToSlash(dir)+"/", "./state/", filepath.ToSlash(dir)+"/state/", "./out/", filepath.ToSlash(dir)+"/out/")
	pipeline = filepath.Join(dir, strconv.Itoa(len(change))+file)
	if err := os.WriteFile(pipeline, []byte(strings.NewReplacer(change...).Replace(string(src))), 0o644); err != nil {
		t.Fatal(err)
	}
	return pipeline
}

// The logs of the example onto four topics, and what is detected on them, against what the lines say. While it collects it may be killed,
// and the broker disturbed.
func articleExample(t *testing.T, broker string, a gen.Article, kills int, disturb func(r *rand.Rand)) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	client := kafkaClient(t, broker, articleTopics[:]...)
	binary, dir := build(t), t.TempDir()
	live, bounded := article(t, dir, broker, "collect.yaml"), article(t, dir, broker, "collect.yaml", "follow: true", "follow: false")
	wrote := make(chan error, 1)
	go func() { wrote <- a.Write(context.Background(), dir) }()
	if kills == 0 {
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		wrote <- nil
	}
	killedLive(t, r, binary, live, kills, 300, 2800, disturb)
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	bad := []string{"garbage that no syslog is", "", "{broken", "no request"}
	for i, line := range bad {
		f, err := os.OpenFile(filepath.Join(dir, gen.ArticleFiles[i]), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(f, line)
		f.Close()
	}
	for range 2 { // the second finds nothing new
		if out, err := exec.Command(binary, "run", bounded).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	got, twice := onTopics(t, client, broker)
	for kind, topic := range articleTopics {
		lines, at, n := text(t, filepath.Join(dir, gen.ArticleFiles[kind])), 0, 0
		for _, line := range strings.SplitAfter(lines, "\n") {
			want := articleLine(t, kind, strings.TrimSuffix(line, "\n"))
			value, ok := got[topic][strconv.Itoa(at)]
			var v map[string]any
			if err := json.Unmarshal([]byte(value), &v); ok && err != nil {
				t.Fatal(err)
			}
			if ok != (want != nil) || !reflect.DeepEqual(v, want) {
				t.Fatalf("%s at %d: %s\n got %v\nwant %v", topic, at, line, v, want)
			}
			if at += len(line); ok {
				n++
			}
		}
		if n != len(got[topic]) || n == 0 {
			t.Errorf("%s: %d lines are %d records", topic, n, len(got[topic]))
		}
	}
	if kills == 0 && twice > 0 {
		t.Errorf("%d records are there twice", twice)
	}
	t.Logf("%d kills, %d records there again", kills, twice)
	unreadable := results(t, filepath.Join(dir, "out", "article_unreadable.jsonl"))
	if len(unreadable) < 3 || kills == 0 && len(unreadable) != 3 {
		t.Errorf("%d lines were unreadable", len(unreadable))
	}
	if kills > 0 {
		return // what is on the topics twice is counted twice
	}
	detect := article(t, dir, broker, "detect.yaml", "consumer_group", "until: end\n    consumer_group")
	if out, err := exec.Command(binary, "run", detect).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	alerts := map[string]bool{}
	for _, r := range results(t, filepath.Join(dir, "out", "article.jsonl")) {
		if r.Tocsin.Kind == "alert" {
			alerts[r.Title] = true
		} else if r.Tocsin.Kind != "row" {
			t.Errorf("%s", r.line)
		}
	}
	if want := articleAlerts(t, got); !maps.Equal(alerts, want) || len(want) < 3 {
		t.Errorf("alerts\n%v\nwant\n%v", slices.Sorted(maps.Keys(alerts)), slices.Sorted(maps.Keys(want)))
	}
}

// articleAlerts works the detecting pipeline out from what is on the topics.
func articleAlerts(t *testing.T, values map[string]map[string]string) (alerts map[string]bool) {
	t.Helper()
	type event struct {
		Timestamp, IP, User, Result, Src, Action, Client, Path string
		SrcIP                                                  string `json:"src_ip"`
		DPT, Status                                            int
		at                                                     time.Time
	}
	of := map[string][]event{}
	for topic, lines := range values {
		for _, v := range lines {
			var e event
			if err := json.Unmarshal([]byte(v), &e); err != nil {
				t.Fatal(err)
			}
			layout := time.RFC3339Nano
			if topic == "weblog" {
				layout = "02/Jan/2006:15:04:05 -0700"
			}
			var err error
			if e.at, err = time.Parse(layout, e.Timestamp); err != nil {
				t.Fatal(err)
			}
			of[topic] = append(of[topic], e)
		}
	}
	alerts = map[string]bool{}
	ports, users, failures := minutes{}, minutes{}, map[string]int{}
	ends := map[string]time.Time{}
	key := func(ip string, at time.Time) string { return ip + " " + at.Truncate(time.Minute).Format("15:04") }
	for _, e := range of["firewall"] {
		if e.Action == "BLOCK" {
			ports.add(e.Src, e.at, strconv.Itoa(e.DPT))
		}
	}
	for id, p := range ports {
		if len(p) >= 15 {
			alerts[fmt.Sprintf("%s looks for open ports (%d of them in a minute)", strings.Fields(id)[0], len(p))] = true
		}
	}
	for _, e := range of["logins"] {
		if e.Result == "Failed" {
			users.add(e.IP, e.at, e.User)
			failures[key(e.IP, e.at)]++
			ends[key(e.IP, e.at)] = e.at.Truncate(time.Minute).Add(time.Minute - time.Millisecond)
		}
	}
	for id, u := range users {
		ip := strings.Fields(id)[0]
		if failures[id] < 10 || len(u) < 4 || !slices.ContainsFunc(of["ids"], func(e event) bool { return e.SrcIP == ip && e.at.Sub(ends[id]).Abs() < 30*time.Minute }) {
			continue
		}
		for _, e := range of["logins"] {
			// right.time + lower <= left.time <= right.time + upper
			if at := e.at.Truncate(time.Millisecond); e.IP == ip && e.Result == "Accepted" && !ends[id].Before(at.Add(-10*time.Minute)) && !ends[id].After(at.Add(time.Minute)) {
				alerts[fmt.Sprintf("%s guessed the password of %s after %d failures in a minute; the IDS knows it", ip, e.User, failures[id])] = true
			}
		}
	}
	for _, e := range of["weblog"] {
		if e.Status == 200 && (strings.Contains(e.Path, "/admin/") || strings.Contains(e.Path, "/.git/") || strings.Contains(e.Path, "/.env")) {
			alerts[e.Client+" got "+e.Path] = true
		}
	}
	return alerts
}

// The example, from the log files over four topics to alerts.
func TestArticle(t *testing.T) {
	articleExample(t, fakeBroker(t), gen.Article{Seed: 7, Events: 20_000}, 0, nil)
}

// The same with a real broker, and again while the logs grow, the binary is killed and the broker stopped. `make integration` asks for it.
func TestIntegrationArticle(t *testing.T) {
	broker, server := realServer(t, "kafka", "19592")
	t.Run("example", func(t *testing.T) { articleExample(t, broker, gen.Article{Seed: 8, Events: 20_000}, 0, nil) })
	server("wipe")
	server("up")
	t.Run("killed", func(t *testing.T) {
		articleExample(t, broker, gen.Article{Seed: 9, Events: 40_000, Rate: 2000}, *kills, func(r *rand.Rand) {
			if r.IntN(2) == 0 {
				server("stop")
				time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
				server("up")
			}
		})
	})
}
