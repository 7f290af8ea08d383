package wasm

import (
	"testing"

	"github.com/seed-98920119/tocsin/abi"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// parting is a module that logs a line in tocsin_close, and goes on as given. Its tocsin_process is given too.
func parting(process, more []byte) []byte {
	export := func(name string, kind, index byte) []byte { return append(appendName(nil, name), kind, index) }
	body := func(code ...byte) []byte { return append(appendU32(nil, uint32(len(code))), code...) }
	closing := cat([]byte{0, 0x41, 1, 0x41, 0xc0, 0, 0x41, 2, opCall, 0}, more, []byte{opEnd})
	manifest := `{"abi":{"major":1,"minor":0},"name":"test.parting","version":"1.0.0","roles":["detect"],"reads":[],"rules":[{"id":1,"title":"one"}]}`
	return file0(section(1, 4, 0x60, 1, i32, 1, i32, 0x60, 2, i32, i32, 1, i32, 0x60, 3, i32, i32, i32, 0, 0x60, 0, 0),
		section(2, append(appendName(appendName([]byte{1}, "tocsin_v1"), "log"), 0, 2)...), section(3, 4, 0, 1, 0, 3), section(5, 1, 0, 1),
		section(7, cat([]byte{5}, export(abi.ExportMemory, 2, 0), export(abi.ExportArena, 0, 1), export(abi.ExportInit, 0, 2), export(abi.ExportProcess, 0, 3), export(abi.ExportClose, 0, 4))...),
		section(10, cat([]byte{4}, body(0, 0x41, 0x80, 8, opEnd), body(0, 0x41, 0, opEnd), body(cat([]byte{0}, process, []byte{opEnd})...), body(closing...))...),
		section(0, append(appendName(nil, abi.ManifestSection), manifest...)...))
}

// tocsin_close is called once an instance that is given up whole, whatever it does then; of one that failed, never.
func TestCloseIsCalled(t *testing.T) {
	good, refuses, traps := []byte{0x41, 0}, []byte{0x41, 0x7f}, []byte{0x00}
	for name, x := range map[string]struct {
		process, closing []byte
		want             int
	}{
		"good": {good, nil, 1}, "it traps": {good, []byte{0x00}, 1}, "it never ends": {good, []byte{0x03, 0x40, 0x0c, 0, opEnd}, 1},
		"a refused call": {refuses, nil, 0}, "a trap before": {traps, nil, 0},
	} {
		m := load(t, parting(x.process, x.closing), Options{Ceiling: Limits{FuelPerCall: 200_000}})
		lines := 0
		p := NewPlugin(m, []byte("{}"), nil, Identity{Log: func(int, string) { lines++ }})
		batch := event.NewBatch(&event.Fields{}, nil)
		batch.AppendRow()
		_, poison, _, _ := p.Detect(nil, []Row{{Batch: batch}})
		if p.Close(); lines != x.want || len(poison) != 1-x.want {
			t.Errorf("%s: %d lines of tocsin_close, want %d; poison %v", name, lines, x.want, poison)
		}
		if err := m.Check([]byte("{}")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
