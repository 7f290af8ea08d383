package engine

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
	"github.com/seed-98920119/tocsin/runtime/state"
)

// A plugin that is held, and whose state is of an earlier version of its module, brings nothing up to date and stops nothing: its keys wait
// until it is let go, and then it goes on with them.
func TestHeldPluginMigratesLater(t *testing.T) {
	was, is := movedSpec(t, "first"), movedSpec(t, "moved")
	store, err := state.Open(state.Options{Dir: filepath.Join(t.TempDir(), "s"), Pipeline: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	spaces, mem, at := []uint32{1}, &counted{memory: memory{budget: 1 << 30, epochs: 1}}, int64(0)
	first := NewGraph(was, 1)
	first.src[0].add(operator.NegInf)
	g := resumed(t, was, 2, store, spaces, cutOf(first, 0, nil), mem)
	block := func(keys string) string {
		t.Helper()
		batch := event.NewBatch(was.Fields, []event.Field{was.Fields.Add("k")})
		var items []Item
		for _, k := range strings.Fields(keys) {
			batch.AppendRow(event.Value{Kind: event.String, Text: []byte(k)})
			at++
			items = append(items, Item{Row: Row{TS: at, Name: operator.Named(event.EventID([8]byte{1}, at)), Batch: batch, Row: int32(batch.Rows - 1)}})
		}
		if err := g.Block(items); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range g.ops[0].said {
			k := string(x.Batch.Value(was.Fields.Add("k"), int(x.Row)).Text)
			if x.Kind == operator.Failed {
				got = append(got, k+" "+x.Reason)
			} else {
				got = append(got, k+string(x.Batch.Value(was.Fields.Add("rule_id"), int(x.Row)).Text))
			}
		}
		return strings.Join(got, ", ")
	}
	if got := block("a b a a"); got != "a1, b1, a2, a3" {
		t.Fatal(got)
	}
	var e state.Epoch
	var f state.Flush
	g.save(spaces, &e, 1)
	if err := mem.balance(g, spaces, 1, e.Changes(), &f); err != nil {
		t.Fatal(err)
	}
	if err := store.Commit(&e); err != nil {
		t.Fatal(err)
	}
	if err := store.Flush(&f); err != nil {
		t.Fatal(err)
	}
	g.landed()
	cut := cutOf(g, 0, nil)
	g.Close()
	g = resumed(t, is, 2, store, spaces, cut, mem)
	defer g.Close()
	hold := func(why error) {
		for _, s := range g.ops[0].shards {
			callerOf(s).plugin.Hold(why)
		}
	}
	hold(errBudget)
	if got := block("a c b"); got != "a plugin_off, c plugin_off, b plugin_off" {
		t.Error(got)
	}
	hold(nil)
	if got, want := block("b a c"), "b20, a"+strconv.Itoa(3*10+10)+", c10"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
	if n := g.ops[0]; n.openings != 1 || n.off || len(g.notices) != 0 {
		t.Errorf("switched off %d times, off %v, %d notices", n.openings, n.off, len(g.notices))
	}
}
