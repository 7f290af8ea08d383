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

// session is a line of the logs of pipelines/sequence.yaml.
type session struct {
	Time      time.Time
	SessionID string `json:"session_id"`
	SourceIP  string `json:"source_ip"`
	Username  string
	Status    string
	Result    string
}

// readSignins reads a log in order of time; late are lines that come more than delay after a newer one.
func readSignins(t *testing.T, path string, delay time.Duration) (lines []session, late int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var newest time.Time
	for _, text := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var l session
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		if l.Time.Before(newest.Add(-delay)) {
			late++
			continue
		}
		if l.Time.After(newest) {
			newest = l.Time
		}
		lines = append(lines, l)
	}
	slices.SortStableFunc(lines, func(a, b session) int { return a.Time.Compare(b.Time) })
	return lines, late
}

// guessed works out the guesses: for each success, the failures of its address since the success before it. The first guess of
// an address in ten minutes is an alert.
func guessed(lines []session) (alerts []string) {
	failures := map[string][]time.Time{}
	said := map[string]bool{}
	for _, l := range lines {
		switch {
		case l.Status == "success":
			for i, since := range failures[l.SourceIP] {
				id := fmt.Sprint(l.SourceIP, l.Time.Truncate(10*time.Minute))
				if len(failures[l.SourceIP])-i >= 5 && l.Time.Sub(since) <= 10*time.Minute && !said[id] {
					said[id] = true
					alerts = append(alerts, fmt.Sprintf("Password of %s guessed from %s, failing since %s", l.Username, l.SourceIP, stamp(since)))
				}
			}
			failures[l.SourceIP] = nil
		case l.SourceIP != "192.0.2.10" && l.SourceIP != "192.0.2.11":
			failures[l.SourceIP] = append(failures[l.SourceIP], l.Time)
		}
	}
	return alerts
}

// unconfirmed works out the logins without a second factor from a map of sessions.
func unconfirmed(sessions, factors []session) (alerts []string) {
	passed := map[string]time.Time{}
	for _, f := range factors {
		if f.Result == "passed" {
			passed[f.SessionID] = f.Time
		}
	}
	for _, l := range sessions {
		at, ok := passed[l.SessionID]
		if l.Status == "success" && (!ok || at.Sub(l.Time) > 30*time.Second) {
			alerts = append(alerts, fmt.Sprintf("Login of %s from %s without a second factor %s", l.Username, l.SourceIP, stamp(l.Time.Add(30*time.Second))))
		}
	}
	return alerts
}

// The third pipeline: passwords that were guessed, and logins that no second factor follows.
func TestSequencePipeline(t *testing.T) {
	sessions, late := readSignins(t, "pipelines/data/sessions.jsonl", 5*time.Second)
	factors, _ := readSignins(t, "pipelines/data/factors.jsonl", 5*time.Second)
	want := append(guessed(sessions), unconfirmed(sessions, factors)...)
	var got []string
	for _, r := range ran(t, "pipelines/sequence.yaml") {
		var x struct{ Time string } // of an absence: the deadline
		if err := json.Unmarshal([]byte(r.line), &x); err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Tocsin.Kind == "late":
			late--
		case r.Tocsin.Kind == "alert" && r.Tocsin.Operator == "no_second_factor":
			got = append(got, r.Title+" "+x.Time)
		case r.Tocsin.Kind == "alert":
			got = append(got, r.Title)
		}
	}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) || late != 0 || len(guessed(sessions)) < 3 || len(want) < 6 {
		t.Errorf("%d late rows too few, alerts\n%s\nwant\n%s", late, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
