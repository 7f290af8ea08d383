package wasm

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// answers are wrong answers of a guest: what it does, the fault, and the text.
type answers []struct {
	do    int
	fault Fault
	text  string
}

func (x answers) each(t *testing.T, module string, one func(t *testing.T, m *Module, do int) error) {
	defer func(was time.Duration) { backstop = was }(backstop)
	backstop = time.Minute
	m := load(t, file(t, "testdata/roles/"+module+".wasm"), Options{})
	for _, c := range x {
		err := one(t, m, c.do)
		var trap *Trap
		if !errors.As(err, &trap) || trap.Fault != c.fault || !strings.Contains(trap.Text, c.text) {
			t.Errorf("%s, do %d: %v; want %s: %s", module, c.do, err, c.fault, c.text)
		}
	}
}

var threeRows, threeFields = table([]string{"a"}, [][]any{{"one"}, {"two"}, {"three"}})

// judgedBy gives three rows to a module: the hits, and why it failed on all of them.
func judgedBy(t *testing.T, m *Module, n int) (hits int, why error) {
	p := plugin(t, m, do(n), threeFields)
	said, poison, judged, _ := p.Detect(nil, threeRows)
	if judged != 3 || len(poison) > 0 && len(poison) != 3 {
		t.Errorf("do %d: %v, %v, %d judged", n, said, poison, judged)
	}
	if len(poison) > 0 {
		why = poison[0].Err
	}
	return len(said), why
}

// What a filter may answer, and what becomes of it.
func TestHostileFilters(t *testing.T) {
	answers{
		{1, Output, "bits beyond the 1 rows"},
		{2, Output, "out_len is 0; a bitmap over 1 rows has 1 bytes"},
		{3, Output, "out_len is"},
		{4, Output, "out_len is 4294967295"},
		{5, Output, "out_rows is 0; the answer is about all 1 rows"},
		{6, Output, "out_rows is 4294967295"},
		{7, Output, "out_flags is 1"},
		{8, Refused, "-70 (the plugin's own)"},
		{9, Trapped, "unreachable"},
		{10, Fuel, "used up"},
		{12, Refused, "-3 (too small)"},
		{13, Output, "larger than a batch"},
		{14, Output, "out_len is 2"},
	}.each(t, "lying_filter", func(t *testing.T, m *Module, n int) error {
		_, err := judgedBy(t, m, n)
		return err
	})
	m := load(t, file(t, "testdata/roles/lying_filter.wasm"), Options{})
	for n, want := range map[int]int{0: 1, 11: 0, 15: 0} {
		if hits, err := judgedBy(t, m, n); err != nil || hits != want {
			t.Errorf("do %d: %d rows pass, %v", n, hits, err)
		}
	}
}

// What a map may answer.
func TestHostileMaps(t *testing.T) {
	answers{
		{1, Output, "out_len is"},
		{2, Output, "out_len is 100; the descriptors of 3 columns alone have 144 bytes"},
		{3, Output, "out_rows is 0; the answer is about all 1 rows"},
		{4, Output, "out_flags is 4"},
		{5, Output, "column 0 (f) has the index 1"},
		{6, Output, "column 0 (f) is i64; the manifest says f64"},
		{7, Output, "column 0 (f) has the flags 3"},
		{8, Output, "has its data, 8 bytes, at -"},
		{9, Output, "of the output"},
		{10, Output, "and end by"},
		{11, Output, "has 16 bytes of data; 1 rows of f64 have 8"},
		{12, Output, "has the width 4; f64 has 8"},
		{13, Output, "has its validity, 1 bytes, at -"},
		{14, Output, "its validity has bits beyond the 1 rows"},
		{15, Output, "which is no multiple of 8"},
		{16, Output, "offset 0 is 1"},
		{17, Output, "offset 1 is 4294967295"},
		{19, Output, "offset 1 is 4, after 0 of 0"},
		{20, Output, "has a text in row 0 that is not UTF-8"},
		{21, Output, "has a text in row 0 that is not UTF-8"}, // of the rows together each text alone
		{22, Output, "has its offsets, 8 bytes, at 0 of the output"},
		{23, Output, "has 4294967295 bytes of data"},
		{24, Refused, "-70"},
		{25, Output, "larger than a batch"},
		{26, Refused, "-3 (too small)"},
	}.each(t, "lying_map", func(t *testing.T, m *Module, n int) error {
		_, err := judgedBy(t, m, n)
		return err
	})
	m := load(t, file(t, "testdata/roles/lying_map.wasm"), Options{})
	for n, want := range map[int]string{
		0: "0 1970-01-01T00:00:00.000Z text|0 1970-01-01T00:00:00.000Z text|0 1970-01-01T00:00:00.000Z text", 27: "null 1970-01-01T00:00:00.000Z text|null 1970-01-01T00:00:00.000Z text|-0 1970-01-01T00:00:00.000Z text",
		28: "0 null text|0 null text|0 0000-01-01T00:00:00.000Z text", 29: "0 1970-01-01T00:00:00.000Z text|0 1970-01-01T00:00:00.000Z text|0 1970-01-01T00:00:00.000Z text", 30: "0 1970-01-01T00:00:00.000Z text|0 1970-01-01T00:00:00.000Z text|0 1970-01-01T00:00:00.000Z text",
	} {
		p := plugin(t, m, do(n), threeFields)
		hits, poison, _, err := p.Detect(nil, threeRows)
		var rows []string
		for _, h := range hits {
			var cells []string
			for c := range 3 {
				v := p.Wrote(int(h.Rule), c)
				if v.Kind == event.Null {
					v.Text = []byte("null")
				}
				cells = append(cells, string(v.Text))
			}
			rows = append(rows, strings.Join(cells, " "))
		}
		if got := strings.Join(rows, "|"); err != nil || len(poison) > 0 || got != want {
			t.Errorf("do %d: %s, %v; want %s", n, got, poison, want)
		}
	}
	if hits, err := judgedBy(t, m, 18); hits != 3 || err != nil { // wrong of three rows, and right of each alone
		t.Errorf("do 18: %d rows, %v", hits, err)
	}
}

// What an aggregate may answer: no state changes by a call that fails.
func TestHostileAggregates(t *testing.T) {
	state := func() []byte { return append(make([]byte, 0, 8), 7, 0, 0, 0, 0, 0, 0, 0) }
	one := func(t *testing.T, m *Module, n int) (err error) {
		p := plugin(t, m, do(n), threeFields)
		failed := func(_ int, why error, _ bool) { err = why }
		x, y := state(), state()
		switch {
		case n < 10:
			p.Update([][]byte{x}, []uint32{0, 0, 0}, threeRows, failed)
		case n < 20:
			p.Merge([][]byte{x}, [][]byte{y}, failed)
		default:
			p.Finish([][]byte{x}, func(_ int, v event.Value) { t.Errorf("do %d: it says %s", n, v.Text) }, failed)
		}
		if !bytes.Equal(x, state()) || !bytes.Equal(y, state()) {
			t.Errorf("do %d: the states are %x and %x", n, x, y)
		}
		return err
	}
	var calls answers
	for _, of := range []int{0, 10} {
		calls = append(calls, answers{
			{of + 1, Output, "out_len is 0; the states have 8 bytes"},
			{of + 2, Output, "out_len is 4294967295"},
			{of + 3, Output, "out_rows is 1, not 0"},
			{of + 4, Output, "out_flags is 1"},
			{of + 5, Refused, "-70"},
			{of + 6, Trapped, "unreachable"},
			{of + 7, Fuel, "used up"},
			{of + 8, Refused, "-3 (too small)"},
		}...)
	}
	calls = append(calls, answers{
		{21, Output, "out_len is"},
		{22, Output, "out_rows is 0"},
		{23, Output, "has its data, 8 bytes, at -"},
		{24, Output, "is f64; the manifest says i64"},
		{25, Refused, "-70"},
		{26, Trapped, "unreachable"},
	}...)
	calls.each(t, "lying_aggregate", one)
	m := load(t, file(t, "testdata/roles/lying_aggregate.wasm"), Options{})
	for n, want := range map[int]string{9: "10", 19: "14", 27: "-8", 28: "-8"} {
		p := plugin(t, m, do(n), threeFields)
		x := state()
		fail := func(_ int, err error, _ bool) { t.Errorf("do %d: %v", n, err) }
		switch n {
		case 9:
			p.Update([][]byte{x}, []uint32{0, 0, 0}, threeRows, fail)
		case 19:
			p.Merge([][]byte{x}, [][]byte{state()}, fail)
		}
		if got := values(t, p, [][]byte{x})[0]; got != want {
			t.Errorf("do %d: %s, not %s", n, got, want)
		}
	}
}

// A module needs the exports of its role, and only these.
func TestRoleExports(t *testing.T) {
	aggregate := file(t, roles+"weighted.wasm")
	filter := file(t, roles+"above.wasm")
	for name, c := range map[string]struct {
		code     []byte
		manifest string
		want     string
	}{
		"an aggregate as a filter": {aggregate, roles + "above.json", "it does not export tocsin_process"},
		"a filter as an aggregate": {filter, roles + "weighted.json", "it does not export tocsin_agg_update"},
	} {
		if _, err := Pack(c.code, file(t, c.manifest), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
}
