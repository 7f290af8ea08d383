package engine

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
	"github.com/seed-98920119/tocsin/runtime/wasm"
)

// movedSpec is a pipeline with the rule of testdata/moved, in one of its versions.
func movedSpec(t *testing.T, name string) *Spec {
	t.Helper()
	if _, err := modules(); err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("testdata/moved/" + name + ".wasm")
	if err != nil {
		t.Fatal(err)
	}
	m, err := moduleHost.Load(code, wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &event.Fields{}
	k := f.Add("k")
	p := &Plugin{Ident: operator.Ident{Pipeline: "p", Operator: "o", Form: "detect/1"}, Module: m, Config: []byte("{}"), Fields: []event.Field{k}, Rules: map[uint32]*Rule{},
		RuleID: f.Add("rule_id"), Severity: f.Add("severity"), Note: f.Add("note"), Whole: f.Add(event.Whole), KeyNames: []alert.Column{{Name: "k", Field: k}}}
	p.Columns = []event.Field{k, p.RuleID}
	if p.maps() {
		p.Ident.Form, p.Written = "map/1", []int{0}
	}
	for _, r := range m.Manifest.Rules {
		p.Rules[r.ID] = &Rule{Alert: &alert.Template{Severity: "low"}}
	}
	return &Spec{Name: "p", Fields: f, Streams: []Stream{{Name: "s"}}, Operators: []Operator{{Name: "o", Inputs: []int{0}, Plugin: p, Leaves: true,
		Fingerprint: "plugin: test.moved\nstate version: " + strconv.Itoa(m.Manifest.State.Version) + "\nkey_by: k as utf8\nslot 0: map false"}}}
}

// A module that brings the state of an earlier version up to date goes on with it, key by key, wherever the keys are; one that it makes
// nothing of starts empty, and is an error row.
func TestStateIsBroughtUpToDate(t *testing.T) {
	for _, role := range []string{"", "_map"} {
		t.Run("moved"+role, func(t *testing.T) { broughtUpToDate(t, role) })
	}
}

func broughtUpToDate(t *testing.T, role string) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	failed, moved := 0, 0
	for range 25 {
		was, is := movedSpec(t, "first"+role), movedSpec(t, "moved"+role)
		store, err := state.Open(state.Options{Dir: filepath.Join(t.TempDir(), "s"), Pipeline: "p"})
		if err != nil {
			t.Fatal(err)
		}
		spaces := []uint32{1}
		mem := &counted{memory: memory{budget: []int64{1, 1 << 30}[r.IntN(2)], epochs: 1 + r.IntN(4)}}
		first := NewGraph(was, 1)
		first.src[0].add(operator.NegInf)
		g := resumed(t, was, 1+r.IntN(3), store, spaces, cutOf(first, 0, nil), mem)
		counts, old := map[string]int{}, map[string]bool{}
		at, now := int64(0), int64(0)
		for epoch := uint64(1); epoch < 9; epoch++ {
			if epoch == 5 {
				cut := cutOf(g, 0, nil)
				g.Close()
				g = resumed(t, is, 1+r.IntN(3), store, spaces, cut, mem)
				for k, n := range counts {
					old[k] = true
					counts[k] = 10 * n
				}
			}
			batch := event.NewBatch(was.Fields, []event.Field{was.Fields.Add("k")})
			var items []Item
			var want []string
			for range 1 + r.IntN(60) {
				k := string(rune('a' + r.IntN(8)))
				batch.AppendRow(event.Value{Kind: event.String, Text: []byte(k)})
				at, now = at+1, now+r.Int64N(3)
				items = append(items, Item{Row: Row{TS: now, Name: operator.Named(event.EventID([8]byte{1}, at)), Batch: batch, Row: int32(batch.Rows - 1)}})
				step := 1
				if epoch >= 5 {
					step = 10
				}
				if old[k] && counts[k] == 130 {
					want, counts[k] = append(want, "failed "+k), 0
					failed++
				} else if old[k] {
					moved++
				}
				delete(old, k)
				counts[k] += step
				want = append(want, k+strconv.Itoa((counts[k]-1)%300+1))
			}
			if err := g.Block(items); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			var got []string
			for _, x := range g.ops[0].said {
				if x.Kind == operator.Failed {
					got = append(got, "failed "+string(x.Batch.Value(was.Fields.Add("k"), int(x.Row)).Text))
					continue
				}
				got = append(got, string(x.Batch.Value(was.Fields.Add("k"), int(x.Row)).Text)+string(x.Batch.Value(was.Fields.Add("rule_id"), int(x.Row)).Text))
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Fatalf("seed %d, epoch %d:\nwant %s\n got %s", seed, epoch, want, got)
			}
			var e state.Epoch
			var f state.Flush
			g.save(spaces, &e, epoch)
			if err := mem.balance(g, spaces, epoch, e.Changes(), &f); err != nil {
				t.Fatal(err)
			}
			if err := store.Commit(&e); err != nil {
				t.Fatal(err)
			}
			if err := store.Flush(&f); err != nil {
				t.Fatal(err)
			}
			g.landed()
		}
		g.Close()
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if failed == 0 || moved == 0 {
		t.Errorf("seed %d: %d keys moved, %d failed", seed, moved, failed)
	}
}

// Which states a module may bring up to date: of its own name and key, of a version that it knows.
func TestMigrates(t *testing.T) {
	o := movedSpec(t, "moved").Operators[0]
	for print, want := range map[string]bool{
		"plugin: test.moved\nstate version: 1\nkey_by: k as utf8\nslot 0: map false":                   true,
		"plugin: test.moved\nstate version: 2\nkey_by: k as utf8\nslot 0: map false\nslot 5: map true": true,
		"plugin: test.moved\nstate version: 4\nkey_by: k as utf8\nslot 0: map false":                   false,
		"plugin: test.moved\nstate version: 0\nkey_by: k as utf8":                                      false,
		"plugin: test.moved\nstate version: 1\nkey_by: v as utf8":                                      false,
		"plugin: test.other\nstate version: 1\nkey_by: k as utf8":                                      false,
		"window": false,
	} {
		if o.migrates(print) != want {
			t.Errorf("%q: %v", print, !want)
		}
	}
}
