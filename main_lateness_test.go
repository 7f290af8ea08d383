package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// failure is a failed login of pipelines/data/laptops.jsonl.
type failure struct {
	Time     time.Time
	Laptop   string
	IP       string `json:"source_ip"`
	Status   string
	before   time.Time // the watermark before it
	tooLate  bool      // for everything: nothing that it could belong to takes rows any more
	fiveMins time.Time // the window that it falls into
}

const lateness = 15 * time.Minute

func readFailures(t *testing.T) (all []failure) {
	t.Helper()
	data, err := os.ReadFile("pipelines/data/laptops.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var newest time.Time
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		f := failure{before: newest.Add(-5 * time.Second)}
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		if f.Time.After(newest) {
			newest = f.Time
		}
		if f.fiveMins = f.Time.Truncate(5 * time.Minute); f.Status == "failure" {
			all = append(all, f)
		}
	}
	return all
}

// lateRow is a row of the pipeline lateness.
type lateRow struct {
	IP         string    `json:"source_ip"`
	Start      time.Time `json:"window_start"`
	End        time.Time `json:"window_end"`
	Failures   int
	Laptops    int
	Addresses  int
	Windows    int
	From, To   string
	MergedInto string `json:"merged_into"`
	Tocsin     struct {
		Revision int
		ResultID string `json:"result_id"`
	} `json:"_tocsin"`
}

// guessedLate are the last revisions of guessing, and the reports on them.
func guessedLate(all []failure) (rows, reports []string) {
	type window struct {
		ip    string
		start time.Time
	}
	in, inTime, laptops := map[window]int{}, map[window]int{}, map[window]map[string]bool{}
	for i := range all {
		f := &all[i]
		end := f.fiveMins.Add(5 * time.Minute)
		if f.tooLate = !end.Add(lateness).After(f.before); f.tooLate {
			continue
		}
		w := window{f.IP, f.fiveMins}
		if in[w]++; laptops[w] == nil {
			laptops[w] = map[string]bool{}
		}
		if laptops[w][f.Laptop] = true; end.After(f.before) {
			inTime[w]++
		}
	}
	hours, addresses := map[time.Time][2]int{}, map[time.Time]map[string]bool{}
	for w, n := range in {
		if n < 10 {
			continue
		}
		// Said at the close, or by the tenth failure, and then by each one more.
		rows = append(rows, fmt.Sprint(w.ip, " ", stamp(w.start), " ", n, " ", len(laptops[w]), " revision ", n-max(inTime[w], 10)))
		hour := w.start.Truncate(time.Hour)
		if addresses[hour] == nil {
			addresses[hour] = map[string]bool{}
		}
		addresses[hour][w.ip] = true
		hours[hour] = [2]int{hours[hour][0] + 1, hours[hour][1] + n}
	}
	for hour, x := range hours {
		reports = append(reports, fmt.Sprint(stamp(hour), " ", len(addresses[hour]), " ", x[0], " ", x[1]))
	}
	return rows, reports
}

// bursts are the stretches without a pause of more than a minute of at least five failures.
func bursts(all []failure) (rows []string) {
	byIP := map[string][]failure{}
	for _, f := range all {
		if !f.tooLate { // of those no session takes one either: none has any others of its address
			byIP[f.IP] = append(byIP[f.IP], f)
		}
	}
	for ip, list := range byIP {
		slices.SortStableFunc(list, func(a, b failure) int { return a.Time.Compare(b.Time) })
		for len(list) > 0 {
			n := 1
			for n < len(list) && list[n].Time.Sub(list[n-1].Time) <= time.Minute {
				n++
			}
			if n >= 5 {
				rows = append(rows, fmt.Sprint(ip, " ", stamp(list[0].Time), " ", stamp(list[n-1].Time.Add(time.Minute)), " ", n, " ", list[0].Laptop, " ", list[n-1].Laptop))
			}
			list = list[n:]
		}
	}
	return rows
}

// The pipeline of late rows: the last revision of each row is what maps and sorting say of everything that was not too late, and a
// report has read that and nothing before it.
func TestLateness(t *testing.T) {
	last, byOperator := map[string]lateRow{}, map[string]string{}
	kinds, merged := map[string]int{}, 0
	for _, r := range ran(t, "pipelines/lateness.yaml") {
		if kinds[r.Tocsin.Kind+" "+r.Tocsin.Operator]++; r.Tocsin.Kind != "row" {
			continue
		}
		var x lateRow
		if err := json.Unmarshal([]byte(r.line), &x); err != nil {
			t.Fatal(err)
		}
		id := x.Tocsin.ResultID
		if was, ok := last[id]; ok && was.Tocsin.Revision >= x.Tocsin.Revision {
			t.Errorf("revision %d of %s after %d", x.Tocsin.Revision, id, was.Tocsin.Revision)
		}
		last[id], byOperator[id] = x, r.Tocsin.Operator
	}
	got := map[string][]string{}
	for id, x := range last {
		var text string
		switch op := byOperator[id]; {
		case op == "guessing":
			text = fmt.Sprint(x.IP, " ", stamp(x.Start), " ", x.Failures, " ", x.Laptops, " revision ", x.Tocsin.Revision)
		case op == "report":
			text = fmt.Sprint(stamp(x.Start), " ", x.Addresses, " ", x.Windows, " ", x.Failures)
		case x.MergedInto != "":
			into := last[x.MergedInto]
			if merged++; into.IP != x.IP || into.Start.After(x.Start) || into.End.Before(x.End) || into.MergedInto != "" {
				t.Errorf("%+v went into %+v", x, into)
			}
			continue
		default:
			text = fmt.Sprint(x.IP, " ", stamp(x.Start), " ", stamp(x.End), " ", x.Failures, " ", x.From, " ", x.To)
		}
		got[byOperator[id]] = append(got[byOperator[id]], text)
	}
	all := readFailures(t)
	rows, reports := guessedLate(all)
	want := map[string][]string{"guessing": rows, "report": reports, "bursts": bursts(all)}
	for _, m := range []map[string][]string{got, want} {
		for _, list := range m {
			slices.Sort(list)
		}
	}
	if !maps.EqualFunc(got, want, slices.Equal) || len(rows) < 4 || len(reports) != 2 || merged == 0 {
		t.Errorf("got  %v\nwant %v\n%d merged", got, want, merged)
	}
	tooLate := 0
	for _, f := range all {
		if f.tooLate {
			tooLate++
		}
	}
	if kinds["late guessing"] != tooLate || kinds["late bursts"] != tooLate || tooLate == 0 || kinds["late report"] != 0 {
		t.Errorf("late rows: %v, want %d", kinds, tooLate)
	}
}
