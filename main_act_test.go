package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-98920119/tocsin/bench/gen"
	"github.com/seed-98920119/tocsin/runtime/pipeline/mailbox"
)

// The secrets of the example, which nothing may show.
const (
	firewallSecret = "geheim-wand"
	mailSecret     = "geheim-post"
)

// blocked is a rule of the firewall's.
type blocked struct{ ID, Address, Reason string }

// firewallStub builds the example's firewall and starts it; rules are those that it has.
func firewallStub(t *testing.T, args ...string) (base string, rules func() []blocked) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "firewall")
	if out, err := exec.Command("go", "build", "-o", binary, "./pipelines/article/firewall").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(binary, append([]string{"-listen", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), "FIREWALL_SECRET="+firewallSecret)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(said)
	for base == "" && lines.Scan() {
		base = strings.TrimSuffix(regexp.MustCompile(`http://[\d.:]+/`).FindString(lines.Text()), "/")
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	return base, func() (list []blocked) {
		t.Helper()
		if err := json.Unmarshal(asks(t, "GET", base+"/rules", ""), &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
}

// lossy stands before a receiver: it loses the answer to every third request, after it was done.
func lossy(t *testing.T, to string) *httptest.Server {
	t.Helper()
	var mu sync.Mutex
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		req, err := http.NewRequestWithContext(r.Context(), r.Method, to+r.URL.Path, strings.NewReader(string(body)))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		req.Header = r.Header.Clone()
		res, err := http.DefaultClient.Do(req)
		mu.Lock()
		n++
		lost := n%3 == 1
		mu.Unlock()
		if err != nil || lost {
			panic(http.ErrAbortHandler)
		}
		defer res.Body.Close()
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, res.Body)
	}))
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	return s
}

// actedOn are the titles of the alerts that the example raises, by address, from what is on the topics.
func actedOn(t *testing.T, values map[string]map[string]string) (scanning, brokenIn map[string][]string) {
	t.Helper()
	scanning, brokenIn = map[string][]string{}, map[string][]string{}
	for title := range articleAlerts(t, values) { // the IDS has seen everybody in it who got in
		ip := strings.Fields(title)[0]
		if strings.Contains(title, " looks for open ports ") {
			scanning[ip] = append(scanning[ip], title)
		} else if before, _, ok := strings.Cut(title, "; the IDS knows it"); ok {
			brokenIn[ip] = append(brokenIn[ip], before)
		}
	}
	return scanning, brokenIn
}

// The example blocks who attacks and tells of who got in, each once, while answers get lost, the chat fails for a while and the mail server closes
// the door; it says no secret; and a second run does nothing more.
func TestAct(t *testing.T) {
	binary, broker, dir := build(t), fakeBroker(t), t.TempDir()
	client := kafkaClient(t, broker, articleTopics[:]...)
	if err := (gen.Article{Seed: 12, Events: 20_000}).Write(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	wall, rules := firewallStub(t)
	before := lossy(t, wall)
	told := newChat(t)
	fails := 2
	told.fault = func(w http.ResponseWriter) bool {
		if fails--; fails >= 0 {
			w.WriteHeader(500)
		}
		return fails >= 0
	}
	post := mailbox.New(func(s *mailbox.Server) {
		s.User, s.Password = "tocsin", mailSecret
		s.Fault = func(dial int) (f mailbox.Fault) {
			if dial == 1 {
				f = mailbox.Fault{At: "CONNECT", Say: "421 later"}
			}
			return f
		}
	})
	t.Cleanup(post.Close)
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, post.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	act := article(t, dir, broker, "act.yaml", "consumer_group", "until: end\n    consumer_group", "${FIREWALL:http://127.0.0.1:18082}", before.URL, "${CHAT_URL:http://127.0.0.1:18080/hook}", told.URL,
		"${MAIL_SERVER:127.0.0.1:1025}", post.Addr, "from: Tocsin", "tls: { ca_file: "+ca+", server_name: example.com }\n                        from: Tocsin", "${DRY_RUN:true}", "false")
	env := append(os.Environ(), "FIREWALL_SECRET="+firewallSecret, "MAIL_PASSWORD="+mailSecret)
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(binary, args...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "geheim") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run("run", article(t, dir, broker, "collect.yaml", "follow: true", "follow: false"))
	act2 := filepath.Join(dir, "act.yaml")
	if err := os.Rename(act, act2); err != nil {
		t.Fatal(err)
	}
	run("run", act2)
	run("run", act2) // the second finds nothing new
	for _, format := range []string{"mermaid", "dot", "json", "openlineage"} {
		run("graph", "--format", format, act2)
	}
	run("lint", act2)
	values, _ := onTopics(t, client, broker)
	scanning, brokenIn := actedOn(t, values)
	if len(scanning) == 0 || len(brokenIn) == 0 {
		t.Fatal("no attack")
	}
	want, got := map[string]int{}, map[string]int{}
	for ip := range scanning {
		want[ip]++
	}
	for ip := range brokenIn {
		want[ip]++
	}
	for _, r := range rules() {
		if got[r.Address]++; !slices.Contains(append(scanning[r.Address], brokenIn[r.Address]...), r.Reason) {
			t.Errorf("%+v", r)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("blocked %v, want %v", got, want)
	}
	texts, subjects, wanted := map[string]int{}, map[string]int{}, map[string]int{}
	for _, titles := range brokenIn {
		slices.Sort(titles)
		for _, title := range titles[:min(len(titles), 3)] {
			wanted[title]++
		}
	}
	for id, text := range told.texts {
		var m struct{ Text string }
		if err := json.Unmarshal([]byte(text), &m); err != nil || told.heard[id] != 1 {
			t.Errorf("%v: heard %d times: %s", err, told.heard[id], text)
		}
		texts[strings.TrimPrefix(m.Text, "critical: ")]++
	}
	for _, m := range post.Mails() {
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		if err != nil || !slices.Equal(m.To, []string{"soc@example.com"}) {
			t.Errorf("%v: %+v", err, m)
		}
		subjects[strings.TrimPrefix(subject, "[critical] ")]++
	}
	if !maps.Equal(texts, wanted) || !maps.Equal(subjects, wanted) {
		t.Errorf("chat %v\nmails %v\nwant %v", texts, subjects, wanted)
	}
	if rows := readAll(filepath.Join(dir, "out", "article_act.jsonl")); strings.Contains(rows, `"kind":"error"`) || strings.Contains(rows, "geheim") {
		t.Errorf("%s", rows)
	}
}

// As it stands the example prints, asks nobody, and needs to be told its secrets.
func TestActDryRun(t *testing.T) {
	binary, broker, dir := build(t), fakeBroker(t), t.TempDir()
	kafkaClient(t, broker, articleTopics[:]...)
	if err := (gen.Article{Seed: 12, Events: 20_000}).Write(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "run", article(t, dir, broker, "collect.yaml", "follow: true", "follow: false")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	act := article(t, dir, broker, "act.yaml", "consumer_group", "until: end\n    consumer_group")
	cmd := exec.Command(binary, "run", act)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "the environment has no variable FIREWALL_SECRET") {
		t.Errorf("%v\n%s", err, out)
	}
	cmd = exec.Command(binary, "run", act)
	cmd.Env = append(os.Environ(), "FIREWALL_SECRET="+firewallSecret, "MAIL_PASSWORD="+mailSecret)
	out, err := cmd.Output()
	if err != nil || strings.Contains(string(out), "geheim") {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"DRY RUN  POST http://127.0.0.1:18082/rules  {\"address\":\"" + gen.Attacker, "DRY RUN  POST http://127.0.0.1:18080/hook  {\"text\":\"critical: ", "DRY RUN  mail to soc@example.com  [critical] " + gen.Attacker} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s is missing in\n%s", want, out)
		}
	}
}

// The stub believes only who has the secret, now, and does a thing once.
func TestFirewallStub(t *testing.T) {
	base, rules := firewallStub(t, "-never", "10.0.0.0/8, 127.0.0.0/8")
	at, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// The webhook output is what signs: a pipeline of three alerts, one of which is about an address that is never blocked.
	log := ""
	for _, ip := range []string{"203.0.113.1", "203.0.113.1", "10.1.2.3"} {
		log += fmt.Sprintf(`{"t":"2026-03-02T08:00:00Z","ip":%q}`+"\n", ip)
	}
	if err := os.WriteFile(filepath.Join(dir, "in.jsonl"), []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	pipeline := filepath.Join(dir, "p.yaml")
	text := `
input: { file_lines: { paths: [DIR/in.jsonl] } }
buffer:
  detect:
    name: wall
    state: DIR/state
    streams: { s: { time: { field: t } } }
    operators: { all: { filter: { from: s, where: { ip|exists: true } }, alert: { title: "{ip}", severity: low } } }
output:
  broker:
    pattern: fan_out_sequential_fail_fast
    outputs:
      - file_rows: { path: DIR/out.jsonl }
      - webhook: { url: "URL/rules", body: { address: "{row.ip}", reason: "{title}" }, signature: { secret_env: WALL } }
`
	if err := os.WriteFile(pipeline, []byte(strings.NewReplacer("DIR", dir, "URL", "http://"+at.Host).Replace(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(secret string) []result {
		cmd := exec.Command(build(t), "run", "--fresh", pipeline)
		cmd.Env = append(os.Environ(), "WALL="+secret)
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), firewallSecret) {
			t.Fatalf("%v\n%s", err, out)
		}
		return slices.DeleteFunc(results(t, filepath.Join(dir, "out.jsonl")), func(r result) bool { return r.Tocsin.Kind != "error" })
	}
	if errs := run(firewallSecret); len(errs) != 1 || !strings.Contains(errs[0].line, "HTTP 422: 10.1.2.3 is never blocked") || len(rules()) != 2 {
		t.Errorf("%+v, %+v", errs, rules())
	}
	run(firewallSecret) // the same ids
	if len(rules()) != 2 {
		t.Errorf("%+v", rules())
	}
	for _, headers := range []http.Header{{}, {"Webhook-Id": {"x"}, "Webhook-Timestamp": {"1"}, "Webhook-Signature": {"v1,x"}}, {"Webhook-Id": {"x"}, "Webhook-Timestamp": {fmt.Sprint(1 << 40)}}} {
		req, err := http.NewRequest("POST", base+"/rules", strings.NewReader(`{"address":"203.0.113.9","reason":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = headers
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%v, %v", err, res)
		}
		res.Body.Close()
	}
	if len(rules()) != 2 {
		t.Errorf("%+v", rules())
	}
}
