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

// attempt is a login of pipelines/data/attempts.jsonl.
type attempt struct {
	At     time.Time `json:"login_time"`
	IP     string    `json:"source_ip"`
	User   string    `json:"username"`
	Status string
	before time.Time // the watermark before it
}

func readAttempts(t *testing.T) (all []attempt) {
	t.Helper()
	data, err := os.ReadFile("pipelines/data/attempts.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var newest time.Time
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		a := attempt{before: newest.Add(-5 * time.Second)}
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		if a.At.After(newest) {
			newest = a.At
		}
		all = append(all, a)
	}
	return all
}

// sprays are addresses that failed at ten users or more in a window of two minutes that begins at a half minute.
func sprays(all []attempt) (rows []string, late int) {
	type window struct {
		ip    string
		start time.Time
	}
	tries, users := map[window]int{}, map[window]map[string]bool{}
	for _, a := range all {
		if a.Status != "failure" {
			continue
		}
		taken := false
		for start := a.At.Truncate(30 * time.Second); start.Add(2 * time.Minute).After(a.At); start = start.Add(-30 * time.Second) {
			if w := (window{a.IP, start}); start.Add(2 * time.Minute).After(a.before) {
				if taken = true; users[w] == nil {
					users[w] = map[string]bool{}
				}
				users[w][a.User] = true
				tries[w]++
			}
		}
		if !taken {
			late++
		}
	}
	for w, u := range users {
		if len(u) >= 10 {
			rows = append(rows, fmt.Sprint("password_spray ", w.ip, " ", stamp(w.start), " ", stamp(w.start.Add(2*time.Minute)), " ", tries[w], " ", len(u)))
		}
	}
	return rows, late
}

// guesses are stretches of an address without a pause of more than 30 s, of 20 failures or more, that end with a success.
func guesses(t *testing.T, all []attempt) (rows []string, late int) {
	byIP := map[string][]attempt{}
	for _, a := range all {
		if a.At.Add(30 * time.Second).After(a.before) {
			byIP[a.IP] = append(byIP[a.IP], a)
		} else {
			late++ // of an address that has no other logins, so it can be in no session
		}
	}
	for ip, logins := range byIP {
		slices.SortStableFunc(logins, func(a, b attempt) int { return a.At.Compare(b.At) })
		for len(logins) > 0 {
			n, failures := 1, 0
			for n < len(logins) && logins[n].At.Sub(logins[n-1].At) <= 30*time.Second {
				n++
			}
			first, last := logins[0], logins[n-1]
			for _, a := range logins[:n] {
				if a.Status == "failure" {
					failures++
				}
			}
			logins = logins[n:]
			if last.At.Sub(first.At) > 9*time.Minute {
				t.Fatal("a session is so long that it would be cut")
			}
			if failures >= 20 && last.Status == "success" {
				rows = append(rows, fmt.Sprint("guessing ", ip, " ", stamp(first.At), " ", stamp(last.At.Add(30*time.Second)), " ", failures, " ", first.User))
			}
		}
	}
	return rows, late
}

// tenths are the tens of failures of an address with a user, as the log has them.
func tenths(all []attempt) (rows []string) {
	ten := map[[2]string][]time.Time{}
	for _, a := range all {
		if k := [2]string{a.IP, a.User}; a.Status == "failure" {
			if ten[k] = append(ten[k], a.At); len(ten[k]) == 10 {
				rows = append(rows, fmt.Sprint("slow_guessing ", a.IP, " ", stamp(slices.MinFunc(ten[k], time.Time.Compare)), " ", stamp(slices.MaxFunc(ten[k], time.Time.Compare)), " 10 ", a.User))
				ten[k] = nil
			}
		}
	}
	return rows
}

// The pipeline of windows, against maps, sorting and counting.
func TestWindows(t *testing.T) {
	var got []string
	kinds := map[string]int{}
	for _, r := range ran(t, "pipelines/windows.yaml") {
		if kinds[r.Tocsin.Kind+" "+r.Tocsin.Operator]++; r.Tocsin.Kind != "row" {
			continue
		}
		var x struct {
			IP       string    `json:"source_ip"`
			Start    time.Time `json:"window_start"`
			End      time.Time `json:"window_end"`
			Attempts int
			Users    int
			Failures int
			User     string
			Username string
		}
		if err := json.Unmarshal([]byte(r.line), &x); err != nil {
			t.Fatal(err)
		}
		rest := fmt.Sprint(x.Failures, " ", x.User+x.Username)
		if r.Tocsin.Operator == "password_spray" {
			rest = fmt.Sprint(x.Attempts, " ", x.Users)
		}
		got = append(got, fmt.Sprint(r.Tocsin.Operator, " ", x.IP, " ", stamp(x.Start), " ", stamp(x.End), " ", rest))
	}
	all := readAttempts(t)
	want, lateSprays := sprays(all)
	more, lateGuesses := guesses(t, all)
	want = slices.Concat(want, more, tenths(all))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || len(want) < 10 {
		t.Errorf("got %d rows\n%s\nwant %d\n%s", len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
	}
	for _, op := range []string{"password_spray", "guessing", "slow_guessing"} {
		if kinds["row "+op] == 0 || kinds["alert "+op] != kinds["row "+op] {
			t.Errorf("%d rows and %d alerts of %s", kinds["row "+op], kinds["alert "+op], op)
		}
	}
	if kinds["late password_spray"] != lateSprays || kinds["late guessing"] != lateGuesses || kinds["late slow_guessing"] != 0 || lateSprays == 0 {
		t.Errorf("late rows: %v, want %d and %d", kinds, lateSprays, lateGuesses)
	}
}
