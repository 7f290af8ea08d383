package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// jsonLines reads a log of JSON lines into a slice of T.
func jsonLines[T any](t *testing.T, path string) (all []T) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(text(t, path)), "\n") {
		var x T
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	return all
}

// tried is a login that failed or not.
type tried struct {
	Time             time.Time `json:"login_time"`
	IP               string    `json:"source_ip"`
	Username, Status string
}

// sprayed works password_spraying out: after each failure, all that came before are looked at again.
func sprayed(operator string, all []tried, users int, span time.Duration) (rows []string) {
	alerted := map[string]time.Time{}
	for i, a := range all {
		if a.Status != "failure" {
			continue
		}
		seen := map[string]bool{}
		for _, b := range all[:i+1] {
			if b.IP == a.IP && b.Status == "failure" && a.Time.Sub(b.Time) < span {
				seen[strings.ToLower(b.Username)] = true
			}
		}
		if at, ok := alerted[a.IP]; len(seen) < users || ok && a.Time.Sub(at) < span {
			continue
		}
		alerted[a.IP] = a.Time
		names := []string{}
		for name := range seen {
			names = append(names, name)
		}
		slices.Sort(names)
		note, _ := json.Marshal(names[:10])
		rows = append(rows, fmt.Sprintf(`%s rule 1 %s {"users":%d,"span_s":%d,"some_users":%s}`, operator, a.IP, len(seen), int(span.Seconds()), note))
	}
	return rows
}

func TestSpraying(t *testing.T) {
	var ssh []tried
	for _, m := range regexp.MustCompile(`(?m)^(.{15}) web1 sshd\[\d+\]: (Failed|Accepted) password for (?:invalid user )?(\S+) from (\S+) `).FindAllStringSubmatch(text(t, "pipelines/data/auth.log"), -1) {
		at, err := time.Parse(time.Stamp, m[1])
		if err != nil {
			t.Fatal(err)
		}
		ssh = append(ssh, tried{at, m[4], m[3], map[string]string{"Failed": "failure", "Accepted": "success"}[m[2]]})
	}
	want := append(sprayed("ssh", ssh, 10, 30*time.Minute), sprayed("web", jsonLines[tried](t, "pipelines/data/attempts.jsonl"), 15, 10*time.Minute)...)
	compareRules(t, "spraying", want, []string{"auth.log", "attempts.jsonl"}, 1, 2, 7)
}

// query is a question to a resolver.
type query struct {
	Time          time.Time
	Client, Query string
}

// carriesData is dns_tunnelling with floating point, for names of domains of two labels.
func carriesData(name string) bool {
	labels := strings.Split(name, ".")
	data := strings.ToLower(strings.Join(labels[:len(labels)-2], ""))
	longest, counts := 0, map[rune]float64{}
	for _, l := range labels[:len(labels)-2] {
		longest = max(longest, len(l))
	}
	digits, vowels, letters, hex := 0.0, 0.0, 0.0, true
	for _, c := range data {
		counts[c]++
		hex = hex && strings.ContainsRune("0123456789abcdef", c)
		switch {
		case c >= '0' && c <= '9':
			digits++
		case strings.ContainsRune("aeiou", c):
			vowels++
			letters++
		case c >= 'a' && c <= 'z':
			letters++
		}
	}
	n, entropy, alphabet := float64(len(data)), 0.0, 32.0
	for _, c := range counts {
		entropy -= c / n * math.Log2(c/n)
	}
	if hex {
		alphabet = 16
	}
	return len(data) >= 52 && longest >= 24 && entropy >= 0.8*math.Log2(min(n, alphabet)) && (digits >= 0.12*n || 4*vowels < letters) && labels[len(labels)-1] != "arpa"
}

// tunnels counts them by client in ten minutes.
func tunnels(all []query) (rows []string) {
	names := map[string]map[string]bool{}
	for _, q := range all {
		if !carriesData(q.Query) {
			continue
		}
		key := q.Time.Truncate(10*time.Minute).Format(time.RFC3339) + " " + q.Client
		if names[key] == nil {
			names[key] = map[string]bool{}
		}
		names[key][q.Query] = true
	}
	for key, n := range names {
		if len(n) >= 30 {
			rows = append(rows, fmt.Sprintf("tunnels %s %d", key, len(n)))
		}
	}
	return rows
}

// flow is a connection.
type flow struct {
	Time     time.Time
	Src, Dst string
	Port     int
}

// beacons works beaconing out in seconds, as its first comment has it.
func beacons(t *testing.T, all []flow) (rows []string) {
	type pair struct{ src, dst string }
	kept, alerted := map[pair][]float64{}, map[pair]float64{}
	for _, f := range all {
		at, key := float64(f.Time.UnixMilli())/1000, pair{f.Src, f.Dst}
		times := kept[key]
		if slices.ContainsFunc(times, func(x float64) bool { return math.Abs(x-at) < 20 }) {
			continue
		}
		switch n := len(times); {
		case n > 0 && at-times[n-1] > 7200:
			times = nil
		case n > 0 && at < times[0]:
			t.Fatalf("%v is older than all that is kept", f)
		}
		times = append(slices.Clone(times), at)
		slices.Sort(times)
		times = times[max(0, len(times)-16):]
		kept[key] = times
		mean, squares := (times[len(times)-1]-times[0])/float64(len(times)-1), 0.0
		for i := range times[1:] {
			squares += math.Pow(times[i+1]-times[i]-mean, 2)
		}
		varies := math.Sqrt(squares/float64(len(times)-1)) / mean
		if last, ok := alerted[key]; len(times) < 16 || varies > 0.15 || ok && times[15]-last < 86_400 {
			continue
		}
		alerted[key] = times[15]
		if f.Port != 123 {
			rows = append(rows, fmt.Sprintf(`beacons rule 1 %s {"connections":16,"mean_interval_s":%.3f,"jitter_percent":%.1f,"within_s":%.3f}`, f.Src, mean, 100*varies, times[15]-times[0]))
		}
	}
	return rows
}

func TestControl(t *testing.T) {
	want := append(beacons(t, jsonLines[flow](t, "pipelines/data/flows.jsonl")), tunnels(jsonLines[query](t, "pipelines/data/resolver.jsonl"))...)
	compareRules(t, "control", want, []string{"flows.jsonl", "resolver.jsonl"}, 1) // at the end of a log its windows close
}

// compareRules runs a pipeline whose logs grow in so many steps, and starts it again after each.
func compareRules(t *testing.T, name string, want, logs []string, steps ...int) {
	t.Helper()
	if slices.Sort(want); len(want) < 2 {
		t.Fatal(want)
	}
	binary, dir := build(t), t.TempDir()
	for _, parts := range steps {
		folder := mkdir(t, dir, strings.Repeat("i", parts))
		pipeline, rows := onRules(t, name, folder)
		for part := range parts {
			for _, log := range logs {
				lines := strings.SplitAfter(text(t, "pipelines/data/"+log), "\n")
				if err := os.WriteFile(filepath.Join(folder, log), []byte(strings.Join(lines[:(part+1)*len(lines)/parts], "")), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		got, alerts := ruleRows(t, rows)
		if slices.Sort(got); !slices.Equal(got, want) || alerts != len(want) {
			t.Errorf("in %d parts: %d alerts,\n%s\nwant\n%s", parts, alerts, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// onRules is an example whose logs, state and rows are in a folder.
func onRules(t *testing.T, name, folder string) (pipeline, rows string) {
	t.Helper()
	pipeline, rows = filepath.Join(folder, "pipeline.yaml"), filepath.Join(folder, "rows.jsonl")
	yaml := strings.NewReplacer("./state/"+name, filepath.Join(folder, "state"), "./out/"+name+".jsonl", rows, "pipelines/data/", folder+"/").Replace(text(t, "pipelines/"+name+".yaml"))
	if err := os.WriteFile(pipeline, []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	return pipeline, rows
}

// ruleRows are rows as the expectations have them, and how many alerts there are.
func ruleRows(t *testing.T, path string) (rows []string, alerts int) {
	t.Helper()
	for _, r := range results(t, path) {
		var x struct {
			RuleID                int `json:"rule_id"`
			Note                  json.RawMessage
			IP, Host, Src, Client string
			Start                 string `json:"window_start"`
			Names                 int
		}
		if err := json.Unmarshal([]byte(r.line), &x); err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Tocsin.Kind == "alert":
			alerts++
		case r.Tocsin.Kind != "row":
			if r.Tocsin.Kind != "error" || r.Tocsin.Reason != "not_syslog" { // one line has no time
				t.Errorf("%s", r.line)
			}
		case x.RuleID == 0:
			at, err := time.Parse(time.RFC3339, x.Start)
			if err != nil {
				t.Fatalf("%v: %s", err, r.line)
			}
			rows = append(rows, fmt.Sprintf("%s %s %s %d", r.Tocsin.Operator, at.Format(time.RFC3339), x.Client, x.Names))
		default:
			rows = append(rows, fmt.Sprintf("%s rule %d %s %s", r.Tocsin.Operator, x.RuleID, cmp.Or(x.IP, r.SourceIP, x.Src, x.Host), x.Note))
		}
	}
	return rows, alerts
}

// beat is a line of a machine's log.
type beat struct {
	Time time.Time
	Host string
}

// silences works log_silence out from the log alone: where the watermark stands before each line, and what was due by then.
func silences(all []beat) (rows []string) {
	const after = 5 * time.Minute
	last, reported := map[string]time.Time{}, map[string]time.Time{}
	var newest time.Time
	due := func() {
		w := newest.Add(-10 * time.Second).Truncate(time.Second)
		for host, at := range last {
			if !reported[host].Equal(at) && !w.Before(at.Add(after)) {
				reported[host] = at
				rows = append(rows, fmt.Sprintf(`silent_machines rule 1 %s {"last":"%s","silent_s":300.000}`, host, at.Format("2006-01-02T15:04:05.000Z")))
			}
		}
	}
	for _, b := range all {
		due()
		if at, ok := last[b.Host]; ok && b.Time.Sub(at) >= after {
			rows = append(rows, fmt.Sprintf(`silent_machines rule 2 %s {"silent_s":%.3f}`, b.Host, b.Time.Sub(at).Seconds()))
		}
		if b.Time.After(last[b.Host]) {
			last[b.Host] = b.Time
		}
		if b.Time.After(newest) {
			newest = b.Time
		}
	}
	due()
	return rows
}

// The log is followed while it grows, and the binary is stopped in between.
func TestSilence(t *testing.T) {
	all := jsonLines[beat](t, "pipelines/data/agents.jsonl")
	want := silences(all)
	if slices.Sort(want); len(want) < 3 {
		t.Fatal(want)
	}
	binary, folder := build(t), t.TempDir()
	pipeline, rows := onRules(t, "silence", folder)
	lines := strings.SplitAfter(strings.TrimSpace(text(t, "pipelines/data/agents.jsonl"))+"\n", "\n")[:len(all)]
	log, err := os.Create(filepath.Join(folder, "agents.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	from, to := 0, 0
	for n := 1; to < len(all); n++ { // until there is something to say, so that the binary is at work when it is stopped
		for from, to = to, to+1; to < len(all) && (n == len(want) || len(silences(all[:to])) < n); to++ {
		}
		cmd := exec.Command(binary, "run", pipeline)
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for _, line := range lines[from:to] {
			if _, err := log.WriteString(line); err != nil {
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if strings.Count(readAll(rows), "\n") >= 2*n {
				break // so many rows and alerts
			}
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, said.String())
		}
	}
	got, alerts := ruleRows(t, rows)
	if slices.Sort(got); !slices.Equal(got, want) || alerts != len(want) {
		t.Errorf("%d alerts,\n%s\nwant\n%s", alerts, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
