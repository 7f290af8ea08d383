package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// chat is what the example tells: the messages by webhook-id, and how often each was heard.
type chat struct {
	*httptest.Server
	mu    sync.Mutex
	heard map[string]int
	texts map[string]string
	fault func(w http.ResponseWriter) (deaf bool) // under the lock
}

func newChat(t *testing.T) *chat {
	t.Helper()
	c := &chat{heard: map[string]int{}, texts: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.fault != nil && c.fault(w) {
			return
		}
		id := r.Header.Get("Webhook-Id")
		if was, ok := c.texts[id]; ok && was != string(body) {
			t.Errorf("%s says\n%s\nand\n%s", id, was, body)
		}
		c.heard[id]++
		c.texts[id] = string(body)
	}))
	t.Cleanup(c.Close)
	return c
}

// The example tells of each login from an attacking address, at most three a user, and puts all of them into the file.
func TestNotify(t *testing.T) {
	c := newChat(t)
	pipeline, rows := moved(t, "pipelines/notify.yaml", t.TempDir(), "${CHAT_URL:http://127.0.0.1:18080/hook}", c.URL, "${DRY_RUN:true}", "false")
	binary := build(t)
	for range 2 { // the second finds nothing new
		if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	attacked, _, _, _ := expected(t)
	attacked = slices.DeleteFunc(attacked, func(s string) bool { return !strings.HasPrefix(s, "attacked ") })
	of := map[string]int{} // by user
	known := map[string]int{}
	for _, row := range attacked {
		words := strings.SplitN(row, " ", 4)
		if of[words[2]] < 3 {
			of[words[2]]++
		}
		known[fmt.Sprintf("high: %s logged in from %s, which attacks (%s)", words[2], words[1], words[3])]++
	}
	told := map[string]int{}
	for id, text := range c.texts {
		var m struct {
			Text, User string
			Techniques []string
		}
		if err := json.Unmarshal([]byte(text), &m); err != nil || !slices.Equal(m.Techniques, []string{"T1078"}) || known[m.Text] == 0 || c.heard[id] != 1 {
			t.Errorf("%v: %d times %s", err, c.heard[id], text)
		}
		known[m.Text]--
		told[m.User]++
	}
	if !maps.Equal(told, of) || len(of) == 0 || len(c.texts) == len(attacked) {
		t.Errorf("told %v, want %v, of %d", told, of, len(attacked))
	}
	alerts := 0
	for _, r := range results(t, rows) {
		if r.Tocsin.Kind == "alert" {
			alerts++
		}
	}
	if alerts != len(attacked) {
		t.Errorf("%d alerts in the file, want %d", alerts, len(attacked))
	}
}

// As it stands the example prints, and asks nobody.
func TestNotifyDryRun(t *testing.T) {
	pipeline, _ := moved(t, "pipelines/notify.yaml", t.TempDir())
	out, err := exec.Command(build(t), "run", pipeline).Output()
	if err != nil || !strings.HasPrefix(string(out), "DRY RUN  POST http://127.0.0.1:18080/hook  {") || strings.Count(string(out), "\n") != strings.Count(string(out), "DRY RUN") {
		t.Errorf("%v\n%s", err, out)
	}
}

// attackedLogins writes logs in which one address attacks and so many log in from it.
func attackedLogins(t *testing.T, logins, ids string, n int) {
	t.Helper()
	const attack = `{"event_time":"2026-03-02T08:00:00Z","source_ip":"203.0.113.7","severity":"high","attack_classification":"scan"}` + "\n"
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, `{"login_time":"2026-03-02T08:%02d:%02d.%03dZ","source_ip":"203.0.113.7","username":"u%d"}`+"\n", i/60%60, i%60, i/3600, i)
	}
	if err := errors.Join(os.WriteFile(ids, []byte(attack), 0o644), os.WriteFile(logins, []byte(all.String()), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// Kill -9 at random moments, with a receiver that fails, loses answers and is slow: everything is heard at least once, or at most once
// and what is not known of is an error row.
func TestKilledWebhook(t *testing.T) {
	binary := build(t)
	for _, delivery := range []string{"at_least_once", "at_most_once"} {
		t.Run(delivery, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			faults := rand.New(rand.NewPCG(seed, 2))
			c, dir := newChat(t), t.TempDir()
			c.fault = func(w http.ResponseWriter) (deaf bool) {
				switch faults.IntN(20) {
				case 0:
					w.WriteHeader(429)
					return true
				case 1:
					w.WriteHeader(503)
					return delivery == "at_least_once" // nobody knows
				}
				time.Sleep(2 * time.Millisecond)
				return false
			}
			logins, ids := filepath.Join(dir, "logins.jsonl"), filepath.Join(dir, "ids.jsonl")
			attackedLogins(t, logins, ids, 300)
			journal := ""
			if delivery == "at_most_once" {
				journal = "\n          delivery: at_most_once"
			}
			pipeline, rows := moved(t, "pipelines/notify.yaml", dir, "${CHAT_URL:http://127.0.0.1:18080/hook}", c.URL, "dry_run: ${DRY_RUN:true}", "retry_for: 2s"+journal, "pipelines/data/logins.jsonl", logins, "pipelines/data/ids.jsonl", ids,
				`          limit: { key: "{row.username}", max: 3, per: 10m, over: drop }`+"\n", "")
			n := killedOften(t, r, binary, pipeline, *kills/2, 50, 400)
			alerts, unknown, twice := map[string]bool{}, map[string]bool{}, 0
			for _, x := range results(t, rows) {
				switch x.Tocsin.Kind {
				case "alert":
					alerts[x.Tocsin.ResultID] = true
				case "error":
					var e struct {
						Detail string
						ID     string `json:"result_id"`
					}
					if err := json.Unmarshal([]byte(x.line), &e); err == nil && e.ID != "" {
						unknown[e.ID] = true
						if !strings.Contains(e.Detail, "at_most_once does not try again") {
							t.Errorf("%s", x.line)
						}
					}
				}
			}
			for id := range alerts {
				switch times := c.heard[id]; {
				case delivery == "at_most_once" && (times > 1 || times == 0 && !unknown[id]):
					t.Errorf("seed %d: %s was heard %d times", seed, id, times)
				case delivery == "at_least_once" && times == 0:
					t.Errorf("seed %d: %s was not heard", seed, id)
				case times > 1:
					twice++
				}
			}
			if twice > 8*n {
				t.Errorf("seed %d: %d were heard twice after %d kills, and 8 were under way at most", seed, twice, n)
			}
			if len(alerts) != 300 || n == 0 || delivery == "at_least_once" && len(unknown) > 0 || len(c.heard) > len(alerts) {
				t.Errorf("seed %d: %d alerts, %d heard, %d unknown", seed, len(alerts), len(c.heard), len(unknown))
			}
			t.Logf("%d alerts, %d kills, %d heard twice, %d unknown", len(alerts), n, twice, len(unknown))
		})
	}
}
