package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seed-98920119/tocsin/bench/gen"
	"github.com/seed-98920119/tocsin/runtime/bigquery/double"
)

// warehouse stands in for BigQuery: strict about offsets, so that it can tell a row that is there once.
type warehouse struct{ *double.Server }

func newWarehouse() *warehouse { return &warehouse{double.New()} }

// chat takes messages, and knows those that come again by their key.
type chat struct {
	*httptest.Server
	mu   sync.Mutex
	said map[string]string
}

func newChat() *chat {
	c := &chat{said: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct{ Text string }
		_ = json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&m)
		c.mu.Lock()
		c.said[r.Header.Get("Idempotency-Key")] = m.Text
		c.mu.Unlock()
	}))
	return c
}

// document is what is looked at of a row or alert, in the file and in the index.
type document struct {
	Title    string
	Operator string
	Time     int64 // of the event, ms
}

// documents are all documents of an index, or those of one operator, by id; none if it is not there yet.
func (c *stage) documents(index, operator string) (map[string]document, error) {
	all := map[string]document{}
	after := ""
	if operator != "" {
		index += "/_search?q=_tocsin.operator:" + operator
	} else {
		index += "/_search"
	}
	for {
		body := `{"size":1000,"sort":[{"_tocsin.result_id":"asc"}]` + after + `}`
		req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, c.index+"/"+index, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound || err == nil && resp.StatusCode == http.StatusBadRequest && len(all) == 0 {
			return all, nil // no document yet, so no field to sort by
		}
		var found struct {
			Hits struct {
				Hits []struct {
					ID     string `json:"_id"`
					Source struct {
						Title  string
						Tocsin struct {
							Operator string
							Time     json.Number `json:"event_time_ms"`
						} `json:"_tocsin"`
					} `json:"_source"`
					Sort []any
				}
			}
		}
		if err == nil {
			err = json.Unmarshal(b, &found)
		}
		if err != nil || resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s: %w", index, resp.Status, errors.Join(err, errors.New(string(b))))
		}
		hits := found.Hits.Hits
		for _, h := range hits {
			ms, _ := h.Source.Tocsin.Time.Int64()
			all[h.ID] = document{h.Source.Title, h.Source.Tocsin.Operator, ms}
		}
		if len(hits) < 1000 {
			return all, nil
		}
		last, err := json.Marshal(hits[len(hits)-1].Sort)
		if err != nil {
			return nil, err
		}
		after = `,"search_after":` + string(last)
	}
}

// settle waits until what was detected is everywhere, then stops the collector and the case.
func (c *stage) settle() error {
	// Where nothing comes any more, the last windows close 20 s after (idle_timeout and advance_when_idle), and then their delay.
	was, quiet := figures{Records: -1}, 0
	for moved := time.Now(); quiet < 35; time.Sleep(time.Second) {
		is, err := c.figures()
		if quiet++; err != nil || is != was || is.waiting > 0 {
			quiet = 0
		}
		if err == nil && is != was {
			was, moved = is, time.Now()
		}
		if c.ctx.Err() != nil || time.Since(moved) > 2*time.Minute {
			return fmt.Errorf("%d rows still wait: %w\n%s", is.waiting, errors.Join(err, c.ctx.Err()), c.last("tocsin"))
		}
	}
	for _, p := range append(c.procs[1:], c.tocsin) {
		_ = p.Process.Signal(os.Interrupt)
		if err := p.Wait(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(p.Args[1:], " "), err, c.last(p.Path))
		}
	}
	return nil
}

// count compares what was said with what has arrived, and with the logs.
func (c *stage) count() error {
	said, newest, logins, err := c.said()
	if err != nil {
		return err
	}
	lines, err := countLines(filepath.Join(c.dir, "logs", "article", gen.ArticleFiles[gen.LoginLog]))
	if err != nil {
		return err
	}
	var wrong []error
	check := func(what string, got, want int) {
		mark := "ok"
		if got != want {
			mark = fmt.Sprintf("NOT %d", want)
			wrong = append(wrong, fmt.Errorf("%s: %d, not %d", what, got, want))
		}
		say("  %8d  %s: %s", got, what, mark)
	}
	say("  %8d  lines were written", c.written)
	check("logins in windows of 20 seconds, of all lines of auth.log", logins, lines)
	for _, kind := range []string{"row", "alert"} {
		got, err := c.documents("article-"+kind, "")
		if err != nil {
			return err
		}
		check("documents of kind "+kind+" in the index, each once", common(got, said[kind]), len(said[kind]))
		check("documents there that nobody said", len(got)-common(got, said[kind]), 0)
	}
	stored, twice, same := map[string]int64{}, 0, 0
	for _, table := range c.house.Tables() {
		ids := map[string]bool{}
		for _, r := range c.house.Rows(table) {
			if ids[r.ID()] {
				twice++
			}
			id, revision := fmt.Sprint(r["result_id"]), r["revision"].(int64)
			ids[r.ID()], stored[id] = true, max(stored[id], revision)
		}
	}
	for id, revision := range stored {
		if n, ok := newest[id]; ok && n == revision {
			same++
		}
	}
	check("results in the warehouse, in their newest revision", same, len(newest))
	check("results there that nobody said", len(stored)-same, 0)
	check("rows there twice", twice, 0)
	published, err := c.published()
	if err != nil {
		return err
	}
	check("alerts on the topic, by their ids", common(published, said["alert"]), len(said["alert"]))
	rules, err := c.rules()
	if err != nil {
		return err
	}
	if *replay > 0 { // of a day's alerts more than one may ask for it, and a crash forgets that one has
		rules[gen.Attacker] = min(rules[gen.Attacker], 1)
	}
	check("times that the firewall blocks "+gen.Attacker, rules[gen.Attacker], 1)
	say("  %8d  messages in the chat", len(c.chat.said))
	if len(c.chat.said) == 0 {
		wrong = append(wrong, errors.New("the chat was told nothing"))
	}
	if slices.Sort(c.delays); len(c.delays) > 0 {
		say("  from a line of access.log to its alert in the index: median %s, most %s (the log has whole seconds, the index refreshes every second)",
			c.delays[len(c.delays)/2].Round(100*time.Millisecond), c.delays[len(c.delays)-1].Round(100*time.Millisecond))
	}
	return errors.Join(wrong...)
}

// said reads what the lane of files has: documents by kind and id, the newest revision by id, and how many logins their windows counted.
func (c *stage) said() (byKind map[string]map[string]document, newest map[string]int64, logins int, err error) {
	f, err := os.Open(filepath.Join(c.dir, "out", "article_case.jsonl"))
	if err != nil {
		return nil, nil, 0, err
	}
	defer f.Close()
	byKind, newest = map[string]map[string]document{"row": {}, "alert": {}}, map[string]int64{}
	counted := map[string]bool{}
	in := bufio.NewScanner(f)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var r struct {
			Title  string
			Logins int
			Tocsin struct {
				Kind, Operator string
				ID             string `json:"result_id"`
				Revision       int64
			} `json:"_tocsin"`
		}
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return nil, nil, 0, err
		}
		if !counted[r.Tocsin.ID] && r.Tocsin.Operator == "login_attempts" && r.Tocsin.Kind == "row" {
			counted[r.Tocsin.ID] = true
			logins += r.Logins
		}
		newest[r.Tocsin.ID] = max(newest[r.Tocsin.ID], r.Tocsin.Revision)
		if m := byKind[r.Tocsin.Kind]; m != nil {
			m[r.Tocsin.ID] = document{Title: r.Title, Operator: r.Tocsin.Operator}
		}
	}
	return byKind, newest, logins, in.Err()
}

// common is how many keys two maps share.
func common[A, B any](a map[string]A, b map[string]B) (n int) {
	for k := range a {
		if _, ok := b[k]; ok {
			n++
		}
	}
	return n
}

func countLines(path string) (int, error) {
	b, err := os.ReadFile(path)
	return bytes.Count(b, []byte("\n")), err
}

// published are the ids of the alerts on the topic.
func (c *stage) published() (map[string]bool, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka), kgo.ConsumeTopics("article-alerts"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ids := map[string]bool{}
	for {
		ctx, done := context.WithTimeout(c.ctx, 3*time.Second)
		fetches := client.PollFetches(ctx)
		done()
		if fetches.Empty() {
			return ids, nil
		}
		fetches.EachRecord(func(r *kgo.Record) {
			for _, h := range r.Headers {
				if h.Key == "result_id" {
					ids[string(h.Value)] = true
				}
			}
		})
	}
}

// rules are the firewall's, by address.
func (c *stage) rules() (map[string]int, error) {
	resp, err := http.Get(c.firewall + "/rules")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var all []struct{ Address string }
	err = json.NewDecoder(resp.Body).Decode(&all)
	by := map[string]int{}
	for _, r := range all {
		by[r.Address]++
	}
	return by, err
}

// figures are what /stats says: records that were read, rows, and how many of them are not delivered.
type figures struct{ Records, Rows, waiting int64 }

func (c *stage) figures() (f figures, err error) {
	resp, err := http.Get("http://" + c.stats + "/stats?pipeline=article-case")
	if err != nil {
		return f, err
	}
	defer resp.Body.Close()
	var s struct {
		figures
		Lanes []struct {
			Rows int64
			Sent int64 `json:"sent_rows"`
		}
	}
	err = json.NewDecoder(resp.Body).Decode(&s)
	for _, l := range s.Lanes {
		s.waiting += l.Rows + l.Sent
	}
	if err == nil && len(s.Lanes) == 0 {
		err = errors.New("no lanes in /stats")
	}
	return s.figures, err
}

// read is how many records were read since the last start.
func (c *stage) read() int {
	f, err := c.figures()
	if err != nil {
		return 0
	}
	return int(f.Records)
}
