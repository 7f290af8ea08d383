package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// traffic is a line of the logs of pipelines/attribution.yaml.
type traffic struct {
	Time                                                                  time.Time
	IP, Host, Action, Src, Verdict, Client, Query, Result, Domain, Source string
	Port                                                                  int
}

func readTraffic(t *testing.T, name string) (lines []traffic) {
	t.Helper()
	data, err := os.ReadFile("pipelines/data/" + name + ".jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var l traffic
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

// holder is the host that had an address at a time: that of the newest lease by then, unless it was given back or is old.
func holder(leases []traffic, ip string, at time.Time) string {
	var newest traffic
	for _, l := range leases {
		if l.IP == ip && !l.Time.After(at) && l.Time.After(newest.Time) {
			newest = l
		}
	}
	if newest.Action != "lease" || at.Sub(newest.Time) > 2*time.Hour {
		return "null"
	}
	return newest.Host
}

// attributed works the pipeline out from the logs alone.
func attributed(t *testing.T) (rows []string, counts map[string]int) {
	leases, dns := readTraffic(t, "leases"), readTraffic(t, "dns")
	counts = map[string]int{}
	add := func(operator, format string, args ...any) {
		counts[operator]++
		rows = append(rows, operator+" "+fmt.Sprintf(format, args...))
	}
	type minute struct {
		ip string
		at time.Time
	}
	drops, misses := map[minute]int{}, map[minute]int{}
	for _, f := range readTraffic(t, "firewall") {
		if f.Verdict != "drop" {
			continue
		}
		drops[minute{f.Src, f.Time.Truncate(time.Minute)}]++
		host := holder(leases, f.Src, f.Time)
		add("who", "%s %s %d %s", stamp(f.Time), f.Src, f.Port, host)
		if host == "null" {
			add("nobody", "%s is nobody's address, and tried port %d", f.Src, f.Port)
		}
	}
	for _, q := range dns {
		if q.Result == "NXDOMAIN" {
			misses[minute{q.Client, q.Time.Truncate(time.Minute)}]++
		}
		for _, i := range readTraffic(t, "indicators") {
			if d := q.Time.Sub(i.Time); i.Domain == q.Query && d > -3*time.Hour && d < 3*time.Hour { // no log has anything from 2 to 3
				host := strings.ReplaceAll(holder(leases, q.Client, q.Time), "null", "-") // as titles show it
				add("asked_for_bad", "%s (%s) asked for %s", host, q.Client, i.Domain)
			}
		}
	}
	for m, n := range drops {
		if n >= 10 && misses[m] >= 10 {
			add("looks_for_servers", "%s looks for its servers: %d names that do not exist, %d dropped connections", m.ip, misses[m], n)
		}
	}
	return rows, counts
}

// The pipeline of attribution: versions, windows and a ttl, against the logs.
func TestAttribution(t *testing.T) {
	want, counts := attributed(t)
	var got []string
	hosts := map[string]bool{}
	for _, r := range ran(t, "pipelines/attribution.yaml") {
		var x struct {
			Time, IP string
			Host     *string
			Port     int
		}
		if err := json.Unmarshal([]byte(r.line), &x); err != nil && r.Tocsin.Kind == "row" {
			t.Fatal(err)
		}
		switch host := "null"; {
		case r.Tocsin.Kind == "row" && r.Tocsin.Operator == "who":
			if x.Host != nil {
				host = *x.Host
			}
			hosts[host] = true
			got = append(got, fmt.Sprintf("who %s %s %d %s", x.Time, x.IP, x.Port, host))
		case r.Tocsin.Kind == "alert":
			got = append(got, r.Tocsin.Operator+" "+r.Title)
		case r.Tocsin.Kind != "row":
			t.Errorf("%s", r.line)
		}
	}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) || counts["nobody"] < 10 || counts["looks_for_servers"] != 2 || counts["asked_for_bad"] < 8 || len(hosts) < 10 {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	t.Log(counts)
}
