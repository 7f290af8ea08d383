package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// assets are the rows of the sample table, by address and column.
func assets(t *testing.T) map[string]map[string]string {
	t.Helper()
	f, err := os.Open("pipelines/data/assets.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	byIP := map[string]map[string]string{}
	for _, row := range rows[1:] {
		byIP[row[0]] = map[string]string{}
		for i, name := range rows[0] {
			byIP[row[0]][name] = row[i]
		}
	}
	return byIP
}

type knownNetwork struct {
	CIDR, List string
	Risk       int
	prefix     netip.Prefix
}

func networks(t *testing.T) (all []knownNetwork) {
	t.Helper()
	data, err := os.ReadFile("pipelines/data/networks.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var n knownNetwork
		if err := json.Unmarshal([]byte(line), &n); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(n.CIDR, "/") {
			n.CIDR += "/32"
		}
		n.prefix = netip.MustParsePrefix(n.CIDR)
		all = append(all, n)
	}
	return all
}

// connected works the pipeline out from the log and the tables alone.
func connected(t *testing.T) (want []string) {
	t.Helper()
	data, err := os.ReadFile("pipelines/data/firewall.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	known, nets := assets(t), networks(t)
	places, err := maxminddb.Open("pipelines/data/places.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	defer places.Close()
	type window struct {
		owner string
		start int64
	}
	counts, most := map[window]int{}, map[window]int{}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var e struct {
			Time              time.Time
			Src, Dst, Verdict string
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		a, ok := known[e.Src]
		owner := "null"
		row := strings.TrimSuffix(line, "}")
		if ok {
			owner = a["owner"]
			purpose, _ := json.Marshal(a["purpose"])
			row += fmt.Sprintf(`,"asset.ip":%q,"asset.owner":%q,"asset.purpose":%s`, a["ip"], owner, purpose)
			if a["tier"] != "" {
				row += `,"asset.tier":` + a["tier"]
			}
		}
		best := knownNetwork{Risk: -1}
		for _, n := range nets {
			if n.prefix.Contains(netip.MustParseAddr(e.Dst)) && (best.Risk < 0 || n.prefix.Bits() > best.prefix.Bits()) {
				best = n
			}
		}
		row += fmt.Sprintf(`,"dst_list":%q,"dst_risk":%d`, best.List, best.Risk)
		var at struct {
			Country struct {
				ISO string `maxminddb:"iso_code"`
			} `maxminddb:"country"`
			City struct {
				Names map[string]string `maxminddb:"names"`
			} `maxminddb:"city"`
		}
		if err := places.Lookup(netip.MustParseAddr(e.Dst)).Decode(&at); err != nil {
			t.Fatal(err)
		}
		if at.Country.ISO != "" {
			row += fmt.Sprintf(`,"dst_country":%q`, at.Country.ISO)
		}
		if city := at.City.Names["en"]; city != "" {
			row += fmt.Sprintf(`,"dst_city":%q`, city)
		}
		row += "}"
		if e.Verdict == "accept" && a["tier"] == "1" && best.Risk >= 50 {
			want = append(want, "row risky "+row, fmt.Sprintf("alert risky %s of %s connected to %s in %s (%s)", a["purpose"], owner, e.Dst, at.Country.ISO, best.List))
		}
		if e.Verdict == "drop" {
			w := window{owner, e.Time.Unix() / 43200 * 43200}
			counts[w]++
			most[w] = max(most[w], best.Risk)
		}
	}
	for w, n := range counts {
		owner := fmt.Sprintf("%q", w.owner)
		if w.owner == "null" {
			owner = "null"
		}
		want = append(want, fmt.Sprintf(`row refused {"asset.owner":%s,"window_start":%q,"window_end":%q,"connections":%d,"riskiest":%d}`, owner,
			stamp(time.Unix(w.start, 0)), stamp(time.Unix(w.start+43200, 0)), n, most[w]))
	}
	slices.Sort(want)
	return want
}

func TestEnrich(t *testing.T) {
	var got []string
	for _, r := range ran(t, "pipelines/enrich.yaml") {
		text := r.line[:strings.Index(r.line, `,"_tocsin"`)] + "}"
		if r.Tocsin.Kind == "alert" {
			text = r.Title
			var a struct{ Events []json.RawMessage }
			if err := json.Unmarshal([]byte(r.line), &a); err != nil || len(a.Events) != 1 || strings.Contains(string(a.Events[0]), "asset.") {
				t.Errorf("its events are not the event: %s", r.line)
			}
		}
		got = append(got, r.Tocsin.Kind+" "+r.Tocsin.Operator+" "+text)
	}
	slices.Sort(got)
	want := connected(t)
	if !slices.Equal(got, want) || len(want) < 10 || !strings.Contains(strings.Join(want, "\n"), "alert") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A table that changes while the pipeline runs is read again, in its interval or on a signal; one that is wrong is not, and the old
// one stays.
func TestTablesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(at(name+".new"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(at(name+".new"), at(name)); err != nil {
			t.Fatal(err)
		}
	}
	put("users.csv", "user,team\nann,one\n")
	put("hosts.csv", "host,zone\nh,north\n")
	put("p.yaml", fmt.Sprintf(`
input: { stdin: { scanner: { lines: {} } } }
buffer:
  detect:
    name: again
    state: %[1]s/state
    tables: { users: { file: %[1]s/users.csv, key: user, reload: 1s }, hosts: { file: %[1]s/hosts.csv, key: host } }
    streams: { log: { time: { field: t, on_missing: arrival } } }
    operators:
      one: { enrich: { from: log, table: users, on: user, as: { team: team } } }
      two: { enrich: { from: one, table: hosts, on: host, as: { zone: zone } } }
output: { file_rows: { path: %[1]s/rows.jsonl } }
`, dir))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, build(t), "run", at("p.yaml"))
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	// until says events until a row says so.
	until := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			n++
			fmt.Fprintf(in, "{\"n\":%d,\"user\":\"ann\",\"host\":\"h\"}\n", n)
			if rows, _ := os.ReadFile(at("rows.jsonl")); strings.Contains(string(rows), want) {
				return
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // and log is complete
		t.Fatalf("no row says %s\n%s", want, log.String())
	}
	until(`"team":"one","zone":"north"`)
	put("users.csv", "user,team\nann,two\n")
	until(`"team":"two","zone":"north"`)
	put("users.csv", "user,team\nann,three\nann,four\n")
	put("hosts.csv", "host,zone\nh,south\n")
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(`"team":"two","zone":"south"`)
	if err := in.Close(); err != nil { // the input has ended, and so does the run
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	if !strings.Contains(log.String(), `users.csv:3:1: the key "ann" is there already, in line 2; keep one`) {
		t.Errorf("the log says\n%s", log.String())
	}
}

// A table that a stream keeps: every row has what was said last of its key at its time, however files are cut and whatever the event
// itself claims, also over a restart; what was said is worked out from the lines alone.
func TestTableOfAStream(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	dir, binary := t.TempDir(), build(t)
	type said struct {
		at   int64 // seconds
		user string
		team string
		left bool
	}
	clock := func(at int64) string { return stamp(time.Unix(1_772_000_000+at, 0)) }
	var versions, logins []said
	pause := func(i, n int) int64 { return int64(2*i/n) * 100 } // the end of the first half answers what waits then
	for i := range 400 {                                        // in disorder by up to 10 s, which is the delay
		versions = append(versions, said{pause(i, 400) + int64(i)*5 + r.Int64N(10), fmt.Sprint("user", r.IntN(12)), fmt.Sprint("team", r.IntN(5)), r.IntN(5) == 0})
	}
	for i := range 1000 {
		logins = append(logins, said{at: pause(i, 1000) + int64(i)*2 + r.Int64N(10), user: fmt.Sprint("user", r.IntN(14))})
	}
	write := func(name string, lines []string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var hr, log, want []string
	for _, v := range versions {
		hr = append(hr, fmt.Sprintf(`{"t":%q,"user":%q,"team":%q,"left":%v}`, clock(v.at), v.user, v.team, v.left))
	}
	found := 0
	for i, l := range logins {
		claim := []string{``, `,"staff":{"team":"claimed","x":1}`, `,"staff.team":"claimed"`}[i%3]
		log = append(log, fmt.Sprintf(`{"t":%q,"n":%d,"user":%q%s}`, clock(l.at), i, l.user, claim))
		row := fmt.Sprintf(`{"t":%q,"n":%d,"user":%q`, clock(l.at), i, l.user)
		if i%3 == 1 {
			row += `,"staff":{"x":1}`
		}
		var is *said
		for k := range versions {
			if v := &versions[k]; v.user == l.user && v.at <= l.at && (is == nil || v.at >= is.at) {
				is = v
			}
		}
		if is != nil && !is.left && l.at-is.at <= 300 {
			row += fmt.Sprintf(`,"staff.user":%q,"staff.team":%q`, is.user, is.team)
			found++
		}
		want = append(want, row+"}")
	}
	write("p.yaml", []string{fmt.Sprintf(`
input: { file_lines: { paths: [%[1]s/hr*.jsonl, %[1]s/logins*.jsonl] } }
buffer:
  detect:
    name: kept
    state: %[1]s/state
    tables: { staff: { stream: hr, key: user, fields: [team], ttl: 5m, deleted: { left: true } } }
    streams:
      hr: { match: { path: "*hr*" }, time: { field: t }, watermark: { delay: 10s } }
      logins: { match: { path: "*logins*" }, time: { field: t }, watermark: { delay: 10s } }
    operators:
      known: { enrich: { from: logins, table: staff, on: user } }
output: { file_rows: { path: %[1]s/rows.jsonl } }
`, dir)})
	for _, part := range []int{2, 1} { // the second run has the rest of both files
		write("hr.jsonl", hr[:len(hr)/part])
		write("logins.jsonl", log[:len(log)/part])
		if out, err := exec.Command(binary, "run", filepath.Join(dir, "p.yaml")).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	var got []string
	for _, r := range results(t, filepath.Join(dir, "rows.jsonl")) {
		if text := r.line[:strings.Index(r.line, `,"_tocsin"`)] + "}"; r.Tocsin.Kind != "row" {
			t.Errorf("%s %s", r.Tocsin.Kind, text)
		} else {
			got = append(got, text)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || found < 300 || found > 900 {
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Fatalf("%d rows, want %d, of which %d are known; the first that differs:\n%s\n%s", len(got), len(want), found, got[min(i, len(got)-1)], want[min(i, len(want)-1)])
			}
		}
		t.Errorf("%d known: that proves little", found)
	}
}
