package engine

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// alertsSpec raises alerts by a filter, a window and a join, which are suppressed and grouped, and adds them up by k.
func alertsSpec(t testing.TB) *Spec {
	s := runnerSpec(t)
	f := s.Fields
	k, v, n := f.Add("k"), f.Add("v"), f.Add("n")
	count, pairs := s.Operators[0], s.Operators[1]
	hits := Operator{Name: "hits", Inputs: []int{0, 1}, Where: condition(t, "{v|gte: 60}", f), Filter: &Filter{Ident: operator.Ident{Pipeline: "p", Operator: "hits", Form: "filter/1"}},
		Leaves: true, Fingerprint: "filter", Names: []alert.Column{{Field: f.Add(event.Whole)}}}
	pairs.Inputs = []int{0, 2}
	pairs.Join.Outputs = append(pairs.Join.Outputs, operator.Output{Name: k, Side: 1, Field: k})
	pairs.Join.Init(f)
	pairs.Names, pairs.Fingerprint = names(f, pairs.Join.Columns), "pairs: 2"
	raise := func(o *Operator, title string, columns ...event.Field) {
		text, err := alert.ParseText(title, func(name string) (event.Field, error) { return f.Add(name), nil })
		if err != nil {
			t.Fatal(err)
		}
		o.Alert = &alert.Template{Rule: alert.Rule{ID: o.Name, Name: o.Name}, Title: text, Severity: "medium", RiskScore: 30, Attack: []string{"T1078"}, Columns: names(f, columns), Held: true,
			Entities: []alert.Entity{{Field: alert.Column{Name: "k", Field: k}, Type: "user"}}}
	}
	raise(&hits, "{v} of {k}", k, v)
	raise(&count, "{n} of {k}", k, n)
	raise(&pairs, "pair of {k}", k)
	pairs.Alert.Held = false
	r := &operator.Risk{Ident: operator.Ident{Pipeline: "p", Operator: "risk", Form: "risk/1"}, HalfLife: 20_000, Threshold: 150, RuleMax: 140, Keep: 5}
	r.Init(f)
	risk := Operator{Name: "risk", Inputs: []int{2, 3, 4}, Risk: r, RiskBy: &RiskBy{}, Leaves: true, Fingerprint: "risk", Names: names(f, r.Columns)}
	raise(&risk, "{entity} has {score}", r.Columns...)
	risk.Alert.RiskScore, risk.Alert.Entities = -1, []alert.Entity{{Field: alert.Column{Name: "entity", Field: r.Columns[1]}, Risk: &alert.EntityRisk{Type: r.Columns[0], Score: r.Score()}}}
	s.Operators = []Operator{hits, count, pairs, risk}
	damp := func(of int, o operator.Suppress) {
		x := s.Operators[of]
		o.Init(f, append(o.Keys, append(x.Alert.Fields(), r.Columns...)...))
		s.Operators = append(s.Operators, Operator{Name: x.Name + "/alerts", Inputs: []int{2 + of}, Suppress: &o, Leaves: true, Fingerprint: "held"})
	}
	damp(0, operator.Suppress{Keys: []event.Field{k}, For: 15_000, Events: 2})
	damp(1, operator.Suppress{Keys: []event.Field{k}, Gap: 25_000, Span: 90_000, Every: 30_000, Events: 1})
	damp(3, operator.Suppress{Gap: 5_000, Span: 40_000, Events: 1})
	return s
}

// Runs that are cut short anywhere say the same alerts, with the same counts, in the end.
func TestRestartsOfAlerts(t *testing.T) { testRestarts(t, alertsSpec, 2) }

// Rows leave all; of the alerts of a key those that are further apart than the period, with what was held; every alert counts for the
// risk.
func TestAlertsOfRows(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	rows, alerts, counted, revised := map[string]int{}, map[string]int{}, 0, 0
	newest := map[event.ID]int64{}
	run, store := startRunner(t, alertsSpec(t), filepath.Join(t.TempDir(), "s"), Options{Shards: 2})
	defer store.Close()
	go feed(rand.New(rand.NewPCG(seed, 2)), run, randomFiles(r))
	drain(t, run, func(t *testing.T, o *Out) {
		switch {
		case o.Kind == "row":
			rows[o.Operator]++
		case o.Kind == "alert":
			var a struct {
				ID, Severity      string
				RiskScore         int `json:"risk_score"`
				Count, Suppressed int64
				Events            []json.RawMessage
				Truncated         bool
				Attack            []string
				First, Last       time.Time
				Entities          []struct {
					Type, Value string
					RiskScore   float64 `json:"risk_score"`
				}
			}
			if err := json.Unmarshal(o.Payload, &a); err != nil {
				t.Fatalf("%v: %s", err, o.Payload)
			}
			if strings.Contains(o.Operator, "/") || a.ID != o.ID.String() || len(a.Entities) != 1 || a.Entities[0].Type != "user" || strings.Join(a.Attack, " ") != "T1078" {
				t.Errorf("%s: %s", o.Operator, o.Payload)
			}
			switch o.Operator {
			case "hits":
				if a.Suppressed != a.Count-1 || a.Truncated != (a.Count > 2) || len(a.Events) != int(min(a.Count, 2)) || (o.Revision > 0) != (a.Count > 1) {
					t.Errorf("revision %d: %s", o.Revision, o.Payload)
				}
			case "count":
				if a.Suppressed != 0 || a.Count < 1 {
					t.Errorf("%s", o.Payload)
				}
			case "risk":
				if a.RiskScore != 100 || a.Entities[0].RiskScore < 150 {
					t.Errorf("%s", o.Payload)
				}
			}
			if o.Revision > 0 {
				revised++
			}
			counted += int(a.Count - newest[o.ID])
			if o.Operator == "pairs" {
				counted -= int(a.Count)
			}
			newest[o.ID] = a.Count
			alerts[o.Operator]++
		}
	})
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	if want := rows["hits"] + rows["count"] + rows["risk"]; counted != want {
		t.Errorf("alerts stand for %d rows, there were %d", counted, want)
	}
	if alerts["pairs"] != rows["pairs"] || alerts["hits"] >= rows["hits"] || alerts["risk"] == 0 || revised == 0 || rows["hits"] == 0 {
		t.Errorf("alerts %v, rows %v, %d revisions", alerts, rows, revised)
	}
}

// What is held may change freely: another key starts anew, and an alert that is no longer held forgets what was.
func TestHeldAlertsChange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	var warned []string
	for round := range 4 {
		spec := alertsSpec(t)
		switch round {
		case 1:
			spec.Operators[4].Fingerprint = "held by v"
		case 2:
			spec.Operators[0].Alert.Held = false
			spec.Operators = append(spec.Operators[:4], spec.Operators[5:]...)
		}
		run, store := startRunner(t, spec, dir, Options{Shards: 1, Warn: func(format string, args ...any) { warned = append(warned, fmt.Sprintf(format, args...)) }})
		for i := range 20 {
			line := fmt.Sprintf(`{"t":"2026-03-02T08:0%d:%02dZ","k":"x","v":90}`, round, i)
			run.Push(&event.Block{Partition: "a1", Meta: map[string]string{"path": "a1"}, Live: true, Data: []byte(line), Lines: []event.Line{{Off: int64(100*round + i), Next: int64(100*round + i + 1), End: uint32(len(line))}}})
		}
		for run.Stats().Events < 20 {
			time.Sleep(time.Millisecond)
		}
		if err := run.Close(); err != nil {
			t.Fatal(err)
		}
		store.Close()
	}
	want := []string{"operator hits/alerts has changed and starts empty", "alerts that hits/alerts held are forgotten: it no longer suppresses or groups them"}
	if !slices.Equal(warned, want) {
		t.Errorf("warned %q", warned)
	}
}
