package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// longLabel is the longest label of a name and its entropy in bits a byte, letters without case.
func longLabel(name string) (length int, entropy float64) {
	label := ""
	for _, l := range strings.Split(name, ".") {
		if len(l) > len(label) {
			label = l
		}
	}
	counts := map[byte]float64{}
	for _, c := range []byte(strings.ToLower(label)) {
		counts[c]++
	}
	for _, n := range counts {
		p := n / float64(len(label))
		entropy -= p * math.Log2(p)
	}
	return len(label), math.Round(1000*entropy) / 1000
}

// tunnelRows works the pipeline out from the queries alone.
func tunnelRows(t *testing.T) (want []string) {
	t.Helper()
	data, err := os.ReadFile("pipelines/data/queries.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	type window struct {
		client string
		start  int64
	}
	type sum struct {
		queries, longest int
		scores           []int
	}
	all := map[window]*sum{}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var e struct {
			Time   time.Time
			Client string
			Query  *string
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		for start := e.Time.Unix()/300*300 - 300; start <= e.Time.Unix(); start += 300 {
			w := window{e.Client, start}
			if all[w] == nil {
				all[w] = &sum{}
			}
			if all[w].queries++; e.Query == nil {
				continue
			}
			n, entropy := longLabel(*e.Query)
			all[w].longest = max(all[w].longest, n)
			if entropy >= 3.2 && n >= 20 {
				all[w].scores = append(all[w].scores, min(n, 100))
			}
		}
	}
	for w, s := range all {
		slices.Sort(s.scores)
		slices.Reverse(s.scores)
		risk := 0.0
		for i, score := range s.scores {
			risk += float64(score) / math.Pow(float64(i+1), 1.5)
		}
		if risk = math.Round(100*risk/2.612375348685488) / 100; risk < 15 { // zeta(1.5)
			continue
		}
		want = append(want, fmt.Sprintf(`row carried {"client":%q,"window_start":%q,"window_end":%q,"queries":%d,"suspicious":%d,"longest":%d,"risk":%v}`, w.client,
			stamp(time.Unix(w.start, 0)), stamp(time.Unix(w.start+600, 0)), s.queries, len(s.scores), s.longest, risk))
		if risk >= 40 {
			want = append(want, strings.Replace(want[len(want)-1], "carried", "tunnel", 1),
				fmt.Sprintf("alert tunnel %s may carry data in %d DNS queries", w.client, len(s.scores)))
		}
	}
	slices.Sort(want)
	return want
}

// A plugin that adds columns and one that is an aggregate, against an independent computation.
func TestTunnel(t *testing.T) {
	var got []string
	for _, r := range ran(t, "pipelines/tunnel.yaml") {
		text := r.line[:strings.Index(r.line, `,"_tocsin"`)] + "}"
		if r.Tocsin.Kind == "alert" {
			text = r.Title
		}
		got = append(got, r.Tocsin.Kind+" "+r.Tocsin.Operator+" "+text)
	}
	slices.Sort(got)
	want := tunnelRows(t)
	if !slices.Equal(got, want) || len(want) < 10 || !strings.Contains(strings.Join(want, "\n"), "alert") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
