package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The pipeline of response times, against sorting and counting: percentiles within 1 %, everything else exactly.
func TestRequests(t *testing.T) {
	data, err := os.ReadFile("pipelines/data/requests.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	type request struct {
		Time            time.Time
		Service, Client string
		MS              any
	}
	type window struct {
		service string
		start   time.Time
	}
	windows := map[window][]request{}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var r request
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		for start := r.Time.Truncate(time.Minute); start.Add(5 * time.Minute).After(r.Time); start = start.Add(-time.Minute) {
			w := window{r.Service, start}
			windows[w] = append(windows[w], r)
		}
	}
	type listed struct {
		Value string
		Count int
	}
	slow, rows := 0, 0
	for _, r := range ran(t, "pipelines/requests.yaml") {
		if slow += map[string]int{"alert": 1}[r.Tocsin.Kind]; r.Tocsin.Kind == "late" || r.Tocsin.Kind == "error" {
			t.Errorf("%s", r.line)
		}
		if r.Tocsin.Kind != "row" || r.Tocsin.Operator != "times" {
			continue
		}
		rows++
		var x struct {
			Service           string
			Start             time.Time `json:"window_start"`
			Requests, Clients int
			Median, P95       float64
			Busiest           []listed
			Approximate       []string
		}
		if err := json.Unmarshal([]byte(r.line), &x); err != nil {
			t.Fatal(err)
		}
		in := windows[window{x.Service, x.Start}]
		delete(windows, window{x.Service, x.Start})
		clients := map[string]int{}
		var times []float64
		for _, q := range in {
			clients[q.Client]++
			if ms, ok := q.MS.(float64); ok {
				times = append(times, ms)
			}
		}
		slices.Sort(times)
		for p, got := range map[float64]float64{0.5: x.Median, 0.95: x.P95} {
			if want := times[int(math.Floor(p*float64(len(times)-1)))]; math.Abs(got-want) > 0.01*want {
				t.Errorf("%s at %s: percentile %v is %v, want %v", x.Service, stamp(x.Start), p, got, want)
			}
		}
		var busiest []listed
		for client, n := range clients {
			busiest = append(busiest, listed{client, n})
		}
		slices.SortFunc(busiest, func(a, b listed) int { return cmp.Or(b.Count-a.Count, strings.Compare(a.Value, b.Value)) })
		if x.Requests != len(in) || x.Clients != len(clients) || x.Approximate != nil || fmt.Sprint(x.Busiest) != fmt.Sprint(busiest[:min(3, len(busiest))]) {
			t.Errorf("%s at %s: %+v, want %d requests of %d clients, most by %v", x.Service, stamp(x.Start), x, len(in), len(clients), busiest[:3])
		}
	}
	if len(windows) > 0 || rows < 60 || slow < 5 {
		t.Errorf("no row of %v, %d rows, %d alerts", slices.Collect(maps.Keys(windows)), rows, slow)
	}
}
