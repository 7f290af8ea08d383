package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"

	"github.com/seed-98920119/tocsin/bench/gen"
	"github.com/seed-98920119/tocsin/runtime/bigquery/double"
)

var (
	caseFor  = flag.Duration("case", time.Minute, "how long TestIntegrationCase writes logs while everything is killed")
	caseRate = flag.Float64("case-rate", 200, "lines a second that it writes")
)

// The whole case, while at random moments the collector and the case are killed, Kafka, OpenSearch and the registry are stopped or killed, and BigQuery,
// the firewall and the chat fail. In the end index, warehouse, file and topic have what the logs alone say, each once. `make integration` asks for it;
// `-case 30m` does so for longer.
func TestIntegrationCase(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := newArticleCase(t, rand.New(rand.NewPCG(seed, 1)))
	over, began := make(chan error, 1), time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		over <- gen.Article{Seed: seed, Events: int(*caseRate * caseFor.Seconds()), Rate: *caseRate}.Write(ctx, filepath.Join(c.dir, "logs", "article"))
	}()
	for writing := true; writing; {
		select {
		case err := <-over:
			if writing = false; err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Duration(500+c.r.IntN(4000)) * time.Millisecond):
			c.disturb()
		}
	}
	wrote := time.Now()
	t.Logf("%s: written; %v", time.Since(began).Round(time.Second), c.done)
	c.settled()
	t.Logf("%s after that all is there", time.Since(wrote).Round(time.Second))
	for _, name := range []string{"collect", "case"} {
		c.stop(name, syscall.SIGTERM)
	}
	if wrong := c.wrong(); len(wrong) > 0 {
		t.Errorf("seed %d, after the end: %s", seed, strings.Join(wrong, "\n"))
	}
	t.Logf("seed %d: %v; %s", seed, c.done, c.figures)
}

// articleCase is all that runs.
type articleCase struct {
	t         *testing.T
	r         *rand.Rand
	dir       string
	binary    string
	env       []string
	kafka     string
	index     string
	house     *double.Server
	ill       atomic.Int32 // what is the matter with the warehouse
	receivers map[string]*receiver
	procs     map[string]*process
	done      map[string]int // how often each was disturbed
	figures   string
	topics    []string
}

// receiver takes what a webhook says, or fails.
type receiver struct {
	*httptest.Server
	ill  atomic.Bool
	mu   sync.Mutex
	took map[string]int    // how often, by the id of what is asked for
	said map[string]string // what
}

func newReceiver(t *testing.T, idHeader string) *receiver {
	a := &receiver{took: map[string]int{}, said: map[string]string{}}
	n := atomic.Int64{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct{ Address, Text string }
		err := json.NewDecoder(r.Body).Decode(&m)
		if ill := a.ill.Load(); ill && n.Add(1)%2 == 0 || err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		id := r.Header.Get(idHeader)
		a.took[id]++
		a.said[id] = m.Address + m.Text
		if a.ill.Load() {
			panic(http.ErrAbortHandler) // done, and the answer is lost
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func newArticleCase(t *testing.T, r *rand.Rand) *articleCase {
	kafka, _ := realServer(t, "kafka", "19692")
	index, _ := realServer(t, "opensearch", "19660")
	registry, _ := realServer(t, "registry", "19681")
	c := &articleCase{t: t, r: r, dir: t.TempDir(), binary: build(t), kafka: kafka, index: index, house: double.New(), procs: map[string]*process{}, done: map[string]int{},
		topics: []string{"logins", "firewall", "ids", "weblog"}, receivers: map[string]*receiver{"firewall": newReceiver(t, "Webhook-Id"), "chat": newReceiver(t, "Idempotency-Key")}}
	t.Cleanup(c.house.Close)
	c.house.Lag = 2
	faults := rand.New(rand.NewPCG(r.Uint64(), 2)) // used under the double's lock
	c.house.Fault = func(call double.Call) double.Fault { return c.fault(call, faults) }
	kafkaClient(t, kafka, append(c.topics, "article-alerts")...)
	c.env = append(os.Environ(), "KAFKA="+kafka, "ELASTICSEARCH="+index, "REGISTRY="+registry, "BIGQUERY="+c.house.URL, "BIGQUERY_STORAGE="+c.house.Storage,
		"FIREWALL="+c.receivers["firewall"].URL, "FIREWALL_SECRET=of this test", "CHAT_URL="+c.receivers["chat"].URL, "DRY_RUN=false")
	if err := os.CopyFS(filepath.Join(c.dir, "pipelines", "article"), os.DirFS("pipelines/article")); err != nil {
		t.Fatal(err)
	}
	mkdir(t, mkdir(t, c.dir, "logs"), "article")
	if out, err := c.command("elasticsearch", "templates", "--install", "pipelines/article/case.yaml").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		for _, p := range c.procs {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	c.start("collect")
	c.start("case")
	return c
}

// fault is what goes wrong in the warehouse: a little always, more while it is ill, everything while it is away.
func (c *articleCase) fault(call double.Call, r *rand.Rand) (f double.Fault) {
	ill := c.ill.Load()
	if ill == 2 {
		f.Reset = true
		return f
	}
	f.Stays = r.IntN(2) == 0
	switch r.IntN([]int{200, 10}[ill]) {
	case 0:
		f.Status, f.Reason, f.Code = 403, []string{"rateLimitExceeded", "quotaExceeded"}[r.IntN(2)], uint32(codes.ResourceExhausted)
	case 1:
		f.Status, f.Code = []int{429, 500, 503}[r.IntN(3)], uint32(codes.Internal)
	case 2:
		f.Reset = true
	case 3:
		f.Lost = true
	case 4:
		f.Gone = call.Name == "append"
	case 5:
		f.Expire = call.Name == "append" || call.Name == "finalize"
	}
	return f
}

func (c *articleCase) command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.binary, args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	return cmd
}

func (c *articleCase) start(name string) {
	p := &process{cmd: c.command("run", "--quiet", "pipelines/article/"+name+".yaml")}
	p.cmd.Stderr = &p.said
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.procs[name] = p
}

// stop ends a process, which must not have ended by itself.
func (c *articleCase) stop(name string, signal syscall.Signal) {
	c.procs[name].end(c.t, signal)
	delete(c.procs, name)
}

func (c *articleCase) server(name, verb string) {
	if out, err := exec.Command("servers/"+name+".sh", verb).CombinedOutput(); err != nil {
		c.t.Fatalf("servers/%s.sh %s: %v\n%s", name, verb, err, out)
	}
}

// disturb ends one to three of those who take part, in a random order, and starts them again, in another.
func (c *articleCase) disturb() {
	all := []string{"collect", "case", "case", "kafka", "opensearch", "registry", "bigquery", "firewall", "chat"}
	c.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = all[:1+c.r.IntN(3)]
	slices.Sort(all)
	victims := slices.Compact(all)
	c.r.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	pause := func() { time.Sleep(time.Duration(c.r.IntN(1500)) * time.Millisecond) }
	for _, v := range victims {
		c.done[v]++
		c.end(v)
		pause()
	}
	for _, i := range c.r.Perm(len(victims)) {
		c.again(victims[i])
		pause()
	}
}

func (c *articleCase) end(victim string) {
	switch victim {
	case "collect", "case":
		if c.procs[victim] != nil {
			c.stop(victim, syscall.SIGKILL)
		}
	case "bigquery":
		c.ill.Store(int32(1 + c.r.IntN(2)))
	case "firewall", "chat":
		c.receivers[victim].ill.Store(true)
	default:
		c.server(victim, []string{"stop", "kill"}[c.r.IntN(2)])
	}
}

func (c *articleCase) again(victim string) {
	switch victim {
	case "collect", "case":
		if c.procs[victim] == nil {
			c.start(victim)
		}
	case "bigquery":
		c.ill.Store(0)
	case "firewall", "chat":
		c.receivers[victim].ill.Store(false)
	default:
		c.server(victim, "up")
	}
}

// settled waits until everything is there; it gives up when nothing has changed for two minutes.
func (c *articleCase) settled() {
	was, since := []string(nil), time.Now()
	for {
		wrong := c.wrong()
		if len(wrong) == 0 {
			return
		}
		if !slices.Equal(wrong, was) {
			was, since = wrong, time.Now()
		}
		if time.Since(since) > 2*time.Minute {
			c.t.Errorf("%v: %s\n%s", c.done, strings.Join(wrong, "\n"), c.figures)
			for name, p := range c.procs {
				c.t.Logf("%s says %s", name, p.said.String()[max(0, p.said.Len()-4000):])
			}
			c.t.FailNow()
		}
		time.Sleep(3 * time.Second)
	}
}

// wrong compares all that is there with the logs.
func (c *articleCase) wrong() (wrong []string) {
	note := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	events := c.events(note)
	if len(wrong) > 0 { // not all is collected
		return wrong
	}
	said := c.said(note)
	docs := c.indexed(said, note)
	c.stored(said, note)
	alerts := c.published(said, note)
	c.acted(note)
	want := expectationOf(events.all)
	want.compare(docs, note)
	twice := 0
	for _, n := range events.lines {
		twice += n - 1
	}
	c.figures = fmt.Sprintf("%d records, %d of them collected again after a kill; %d results, %d alerts in %d records; %d windows, %d late", len(events.lines)+twice, twice, len(said), len(alerts), sum(alerts),
		len(want.windows), want.late)
	return wrong
}

func sum[K comparable](counts map[K]int) (n int) {
	for _, x := range counts {
		n += x
	}
	return n
}

// articleEvent is what a record or a line of the log says that anybody asks for.
type articleEvent struct {
	kind                     string // the topic
	at                       int64  // ms
	ip, user, result, action string
	port                     int
	path                     string
	status                   int
	mark                     string // tells it from others of the same time
}

// articleEvents are all records of the topics, and how often each line is among them.
type articleEvents struct {
	all   []articleEvent
	lines map[articleEvent]int
}

const nginxTime = "02/Jan/2006:15:04:05 -0700"

var (
	sshdLine  = regexp.MustCompile(`^(\S+) \S+ \S+ (Accepted|Failed) password for (?:invalid user )?(\S+) from (\S+) port (\d+) ssh2$`)
	ufwLine   = regexp.MustCompile(`^(\S+) .*\[UFW (\w+)\] .* SRC=(\S+) .* SPT=(\d+) DPT=(\d+) `)
	nginxLine = regexp.MustCompile(`^(\S+) - - \[(.*?)\] "GET (\S+) HTTP/1.1" (\d+) (\d+) `)
)

// eventOf reads a line of a log.
func eventOf(kind int, line string) (e articleEvent, err error) {
	layout, text := time.RFC3339Nano, ""
	part := func(re *regexp.Regexp) []string {
		if m := re.FindStringSubmatch(line); m != nil {
			return m
		}
		err = fmt.Errorf("not read: %s", line)
		return make([]string, 6)
	}
	switch kind {
	case gen.LoginLog:
		m := part(sshdLine)
		e = articleEvent{kind: "logins", result: m[2], user: m[3], ip: m[4], mark: m[5]}
		text = m[1]
	case gen.FirewallLog:
		m := part(ufwLine)
		e = articleEvent{kind: "firewall", action: m[2], ip: m[3], mark: m[4]}
		_, _ = fmt.Sscan(m[5], &e.port)
		text = m[1]
	case gen.IDSLog:
		var x struct {
			Timestamp string
			Flow      json.Number `json:"flow_id"`
			Src       string      `json:"src_ip"`
		}
		err = json.Unmarshal([]byte(line), &x)
		e = articleEvent{kind: "ids", ip: x.Src, mark: x.Flow.String()}
		text = x.Timestamp
	case gen.WebLog:
		m := part(nginxLine)
		e = articleEvent{kind: "weblog", ip: m[1], path: m[3], mark: m[5]}
		_, _ = fmt.Sscan(m[4], &e.status)
		layout, text = nginxTime, m[2]
	}
	if err != nil {
		return e, err
	}
	at, err := time.Parse(layout, text)
	e.at = at.UnixMilli()
	return e, err
}

// events reads logs and topics, which must have each line, perhaps more than once, and nothing else.
func (c *articleCase) events(note func(format string, args ...any)) (events articleEvents) {
	want := map[articleEvent]int{}
	for kind, name := range gen.ArticleFiles {
		text, err := os.ReadFile(filepath.Join(c.dir, "logs", "article", name))
		if err != nil {
			c.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			e, err := eventOf(kind, strings.TrimSuffix(line, "\n"))
			if err != nil {
				c.t.Fatal(err)
			}
			want[e]++
		}
	}
	events.lines = map[articleEvent]int{}
	for _, r := range c.records(c.topics...) {
		var x struct {
			Timestamp, IP, Src, Client, User, Result, Action, Path string
			SrcIP                                                  string `json:"src_ip"`
			Port, SPT, DPT, Status                                 int
			Bytes, Size                                            json.Number
			Flow                                                   json.Number `json:"flow_id"`
		}
		if err := json.Unmarshal(r.Value, &x); err != nil {
			c.t.Fatalf("%v: %s", err, r.Value)
		}
		e := articleEvent{kind: r.Topic, ip: x.IP + x.Src + x.SrcIP + x.Client, user: x.User, result: x.Result, action: x.Action, port: x.DPT, path: x.Path, status: x.Status, mark: x.Flow.String() + x.Bytes.String() + x.Size.String()}
		layout := time.RFC3339Nano
		switch r.Topic {
		case "logins":
			e.mark = fmt.Sprint(x.Port)
		case "firewall":
			e.mark = fmt.Sprint(x.SPT)
		case "ids":
			e.port, e.path, e.status, e.action = 0, "", 0, ""
		case "weblog":
			layout = nginxTime
		}
		at, err := time.Parse(layout, x.Timestamp)
		if err != nil {
			c.t.Fatalf("%v: %s", err, r.Value)
		}
		e.at = at.UnixMilli()
		events.all = append(events.all, e)
		events.lines[e]++
		if want[e] == 0 {
			note("nobody wrote %+v: %s", e, r.Value)
		}
	}
	missing := 0
	for e, n := range want {
		missing += max(0, n-events.lines[e])
	}
	if missing > 0 {
		note("%d lines are not on the topics", missing)
	}
	return events
}

// records are all records of topics.
func (c *articleCase) records(topics ...string) (all []*kgo.Record) {
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.kafka), kgo.ConsumeTopics(topics...))
	if err != nil {
		c.t.Fatal(err)
	}
	defer reader.Close()
	ctx, done := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer done()
	ends, err := kadm.NewClient(reader).ListEndOffsets(ctx, topics...)
	if err != nil {
		c.t.Fatal(err)
	}
	most := 0
	ends.Each(func(o kadm.ListedOffset) { most += int(o.Offset) })
	for len(all) < most {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			c.t.Fatalf("%d of %d records of %v can be read: %v", len(all), most, topics, fetches.Err())
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

// articleDoc is a result, as a line of the file or as a document.
type articleDoc struct {
	Kind, Operator   string
	Revision         int64
	IP, Src, Client  string
	Result, Path     string
	Timestamp, Start string
	Logins, Users    int
	Ports, Blocked   int
	Failures         int
	all              map[string]any // without metadata
}

// docOf reads one, and its id.
func docOf(text string) (d articleDoc, id string, err error) {
	var x struct {
		Tocsin struct {
			Kind, Operator string
			ID             string `json:"result_id"`
			Revision       int64
		} `json:"_tocsin"`
		Start string `json:"window_start"`
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d, "", err
	}
	if err := json.Unmarshal([]byte(text), &x); err != nil {
		return d, "", err
	}
	if err := json.Unmarshal([]byte(text), &d.all); err != nil {
		return d, "", err
	}
	delete(d.all, "_tocsin")
	delete(d.all, "@timestamp")
	d.Kind, d.Operator, d.Revision, d.Start = x.Tocsin.Kind, x.Tocsin.Operator, x.Tocsin.Revision, x.Start
	return d, x.Tocsin.ID, nil
}

// said is what the lane of the file has, by id, in its newest revision. No line is torn, and a line that is there twice is the same.
func (c *articleCase) said(note func(format string, args ...any)) map[string]articleDoc {
	said := map[string]articleDoc{}
	text, err := os.ReadFile(filepath.Join(c.dir, "out", "article_case.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		d, id, err := docOf(line)
		if err != nil {
			note("the file: %v: %s", err, line)
			continue
		}
		was, there := said[id]
		if there && was.Revision == d.Revision && !reflect.DeepEqual(was, d) {
			note("the file says of %s %v and %v", id, was.all, d.all)
		}
		if d.Kind == "error" {
			note("an error row: %s", line)
		}
		if !there || d.Revision >= was.Revision {
			said[id] = d
		}
	}
	return said
}

// indexed compares the index with the file.
func (c *articleCase) indexed(said map[string]articleDoc, note func(format string, args ...any)) map[string]articleDoc {
	docs := map[string]articleDoc{}
	for index, all := range searched(c.t, c.index, "article-*") {
		for id, stored := range all {
			d, own, err := docOf(stored.Source)
			if err != nil || own != id || index != "article-"+d.Kind || stored.Version != d.Revision+1 {
				note("%s/%s: version %d, %v: %s", index, id, stored.Version, err, stored.Source)
			}
			docs[id] = d
		}
	}
	c.same("index", said, maps.All(docs), func(a, b articleDoc) bool { return reflect.DeepEqual(a, b) }, note)
	return docs
}

// same notes what one side has and the other has not, or has otherwise.
func (c *articleCase) same(where string, said map[string]articleDoc, there func(func(string, articleDoc) bool), equal func(a, b articleDoc) bool, note func(format string, args ...any)) {
	missing, others := len(said), 0
	for id, d := range there {
		s, ok := said[id]
		switch {
		case !ok:
			note("%s: nobody said %s: %v", where, id, d.all)
		default:
			if missing--; !equal(s, d) {
				if others++; others < 4 {
					note("%s: %s is %v, revision %d, not %v, revision %d", where, id, d.all, d.Revision, s.all, s.Revision)
				}
			}
		}
	}
	if missing > 0 || others > 0 {
		note("%s: %d are missing, %d are other ones", where, missing, others)
	}
}

// stored compares the warehouse with the file: each result in its newest revision, no revision twice.
func (c *articleCase) stored(said map[string]articleDoc, note func(format string, args ...any)) {
	rows, ids := map[string]articleDoc{}, map[string]bool{}
	for _, table := range c.house.Tables() {
		for _, r := range c.house.Rows(table) {
			if ids[r.ID()] {
				note("warehouse: %s has %s twice", table, r.ID())
			}
			ids[r.ID()] = true
			d := articleDoc{Kind: fmt.Sprint(r["kind"]), Operator: fmt.Sprint(r["operator"]), Revision: r["revision"].(int64), all: r}
			if n, ok := r["logins"].(int64); ok {
				d.Logins = int(n)
			}
			if was, ok := rows[fmt.Sprint(r["result_id"])]; !ok || d.Revision > was.Revision {
				rows[fmt.Sprint(r["result_id"])] = d
			}
		}
	}
	c.same("warehouse", said, maps.All(rows), func(a, b articleDoc) bool {
		return a.Kind == b.Kind && a.Operator == b.Operator && a.Revision == b.Revision && a.Logins == b.Logins
	}, note)
}

// published compares the topic of alerts with the file: each id, perhaps more than once.
func (c *articleCase) published(said map[string]articleDoc, note func(format string, args ...any)) map[string]int {
	ids := map[string]int{}
	for _, r := range c.records("article-alerts") {
		for _, h := range r.Headers {
			if h.Key == "result_id" {
				ids[string(h.Value)]++
			}
		}
	}
	for id, d := range said {
		if d.Kind == "alert" && ids[id] == 0 {
			note("topic: no alert %s", id)
		}
	}
	for id := range ids {
		if said[id].Kind != "alert" {
			note("topic: nobody said %s", id)
		}
	}
	return ids
}

// acted looks at those who act: the attacker is blocked, nobody else is.
func (c *articleCase) acted(note func(format string, args ...any)) {
	for name, a := range c.receivers {
		a.mu.Lock()
		if len(a.took) == 0 {
			note("%s: nothing", name)
		}
		for id, said := range a.said {
			if id == "" || name == "firewall" && said != gen.Attacker {
				note("%s: %q: %s", name, id, said)
			}
		}
		a.mu.Unlock()
	}
}

// expectation is what the records of the topics alone say.
type expectation struct {
	windows map[[3]string]*loginWindow // of an address with a result, by their start
	scans   map[[2]string]*scanWindow  // of an address, by their start
	taken   map[[3]string]int          // what somebody got: address, path and time
	in      map[string][]int64         // when an address got in
	seen    map[string][]int64         // when the IDS saw it
	late    int                        // logins that came too late, which windows do not have
}

type loginWindow struct {
	logins int
	users  map[string]int
	end    int64
}

type scanWindow struct {
	blocked int
	ports   map[int]int
}

func expectationOf(events []articleEvent) *expectation {
	x := &expectation{windows: map[[3]string]*loginWindow{}, scans: map[[2]string]*scanWindow{}, taken: map[[3]string]int{}, in: map[string][]int64{}, seen: map[string][]int64{}}
	for _, e := range events {
		switch e.kind {
		case "logins":
			x.window(e).add(e.user, 1)
			if e.result == "Accepted" {
				x.in[e.ip] = append(x.in[e.ip], e.at)
			}
		case "firewall":
			if e.action == "BLOCK" {
				x.scan(e).add(e.port, 1)
			}
		case "ids":
			x.seen[e.ip] = append(x.seen[e.ip], e.at)
		case "weblog":
			if e.status == 200 && (strings.Contains(e.path, "/admin/") || strings.Contains(e.path, "/.git/") || strings.Contains(e.path, "/.env")) {
				x.taken[[3]string{e.ip, e.path, stamp(time.UnixMilli(e.at))}]++
			}
		}
	}
	return x
}

// windowStart is the start of the window of 20 seconds that a time is in, in ms.
func windowStart(at int64) int64 { return at - at%20_000 }

func (x *expectation) window(e articleEvent) *loginWindow {
	start := windowStart(e.at)
	k := [3]string{e.ip, e.result, stamp(time.UnixMilli(start))}
	if x.windows[k] == nil {
		x.windows[k] = &loginWindow{users: map[string]int{}, end: start + 20_000}
	}
	return x.windows[k]
}

func (w *loginWindow) add(user string, n int) {
	w.logins += n
	if w.users[user] += n; w.users[user] == 0 {
		delete(w.users, user)
	}
}

func (x *expectation) scan(e articleEvent) *scanWindow {
	k := [2]string{e.ip, stamp(time.UnixMilli(windowStart(e.at)))}
	if x.scans[k] == nil {
		x.scans[k] = &scanWindow{ports: map[int]int{}}
	}
	return x.scans[k]
}

func (w *scanWindow) add(port, n int) {
	w.blocked += n
	if w.ports[port] += n; w.ports[port] == 0 {
		delete(w.ports, port)
	}
}

// without takes out what windows have called late.
func (x *expectation) without(docs map[string]articleDoc, note func(format string, args ...any)) {
	for id, d := range docs {
		if d.Kind != "late" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, d.Timestamp)
		e := articleEvent{at: at.UnixMilli(), ip: d.IP, result: d.Result}
		switch {
		case err != nil:
			note("late row %s: %v", id, d.all)
		case d.Operator == "login_attempts":
			x.late++
			x.window(e).add(fmt.Sprint(d.all["user"]), -1)
		case d.Operator == "scanning":
			e.ip = d.Src
			port, _ := d.all["dpt"].(float64)
			x.scan(e).add(int(port), -1)
		default:
			note("late row %s of %s: %v", id, d.Operator, d.all)
		}
	}
	maps.DeleteFunc(x.windows, func(_ [3]string, w *loginWindow) bool { return w.logins == 0 })
	maps.DeleteFunc(x.scans, func(_ [2]string, w *scanWindow) bool { return len(w.ports) < 10 })
}

// compare compares what is expected with the documents: all is there, once, and nothing else.
func (x *expectation) compare(docs map[string]articleDoc, note func(format string, args ...any)) {
	x.without(docs, note)
	want, got := map[string]int{}, map[string]int{}
	for k, w := range x.windows {
		want[fmt.Sprint("login_attempts ", k, " ", w.logins, " ", len(w.users))]++
	}
	for k, w := range x.scans {
		want[fmt.Sprint("scanning ", k, " ", w.blocked, " ", len(w.ports))]++
	}
	for k, n := range x.taken {
		want[fmt.Sprint("taken ", k)] += n
	}
	for k, w := range x.windows {
		if k[1] == "Failed" && w.logins >= 6 && len(w.users) >= 4 && x.known(k[0], w.end-1) {
			want[fmt.Sprint("known ", k[0], " ", w.logins)]++
		}
	}
	alerts := map[string]int{}
	for _, d := range docs {
		if d.Kind == "alert" {
			alerts[d.Operator]++
		}
		if d.Kind != "row" {
			continue
		}
		switch d.Operator {
		case "login_attempts":
			got[fmt.Sprint("login_attempts ", [3]string{d.IP, d.Result, d.Start}, " ", d.Logins, " ", d.Users)]++
		case "scanning":
			got[fmt.Sprint("scanning ", [2]string{d.Src, d.Start}, " ", d.Blocked, " ", d.Ports)]++
		case "taken":
			at, err := time.Parse(nginxTime, d.Timestamp)
			if err != nil {
				note("%v: %v", err, d.all)
			}
			got[fmt.Sprint("taken ", [3]string{d.Client, d.Path, stamp(at)})]++
		case "known":
			got[fmt.Sprint("known ", d.Src, " ", d.Failures)]++
		}
	}
	differ := 0
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if want[k] != got[k] {
			if differ++; differ < 4 {
				note("%s: %d times, not %d", k, got[k], want[k])
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if want[k] == 0 {
			if differ++; differ < 8 {
				note("%s: %d times, which the logs do not say", k, got[k])
			}
		}
	}
	if differ > 0 {
		note("%d of %d are other ones", differ, len(want))
	}
	for _, name := range []string{"scanning", "known", "taken", "at_risk"} {
		if alerts[name] == 0 {
			note("no alert of %s", name)
		}
	}
}

// known says whether an address that guessed by then got in around that time, and the IDS saw it.
func (x *expectation) known(ip string, at int64) bool {
	const minute = 60_000
	for _, in := range x.in[ip] {
		if at < in-10*minute || at > in+minute {
			continue
		}
		joined := max(at, in)
		if slices.ContainsFunc(x.seen[ip], func(seen int64) bool { return max(seen-joined, joined-seen) <= 60*minute }) {
			return true
		}
	}
	return false
}
