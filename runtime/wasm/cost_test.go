package wasm

import (
	"testing"

	"github.com/seed-98920119/tocsin/abi"
)

// What a plugin does is counted: each failed call under the fault that it ended with, each instance, the memory that one had.
func TestCosts(t *testing.T) {
	m := hostile(t, 4)
	rows, fields := table([]string{"a"}, [][]any{{"one"}, {"two"}, {"three"}})
	var all Counts
	for fault, n := range map[Fault]int{Fuel: 1, Stack: 3, Trapped: 8, Exited: 11, Output: 13, Pointer: 23, Refused: 25} {
		p := plugin(t, m, do(n), fields)
		p.Detect(nil, rows)
		c := p.Counts
		for i, name := range FaultNames {
			if want := c.Failures; name == fault && c.Faults[i] != want || name != fault && c.Faults[i] != 0 {
				t.Errorf("do %d: %d of %d failures are %s", n, c.Faults[i], want, name)
			}
		}
		if c.Failures == 0 || c.Instances != c.Failures || c.Time <= 0 {
			t.Errorf("do %d: %+v", n, c)
		}
		all.Add(&c)
	}
	if sum := total(all.Faults); sum != all.Failures || all.Instances != all.Failures {
		t.Errorf("%d faults, %d failures, %d instances", sum, all.Failures, all.Instances)
	}
	p := plugin(t, m, do(36), fields) // grows to the limit at once, and is replaced after each call
	for range 5 {
		p.Detect(nil, rows)
	}
	if c := p.Counts; c.MemoryPeak != 4<<20 || c.Instances != 5 || c.Failures != 0 {
		t.Errorf("%+v", c)
	}
	p.Blind = true
	was := p.Counts
	p.Detect(nil, rows)
	if p.Counts.Time != was.Time || p.Counts.Calls != was.Calls+1 {
		t.Errorf("%+v after %+v", p.Counts, was)
	}
}

func total(f Faults) (sum int64) {
	for _, n := range f {
		sum += n
	}
	return sum
}

// BenchmarkCosts is what measuring costs a call, where it shows most: with one row, and with a shard's share of a block.
func BenchmarkCosts(b *testing.B) {
	m := load(b, file(b, benchRules+"helper.wasm"), Options{})
	all, fields := table(m.paths(), commands(2048))
	for name, n := range map[string]int{"row": 1, "block": 2048} {
		for state, blind := range map[string]bool{"on": false, "off": true} {
			b.Run(name+"/"+state, func(b *testing.B) {
				p := plugin(b, m, "{}", fields)
				p.Blind = blind
				var hits []abi.Hit
				for b.Loop() {
					hits, _, _, _ = p.Detect(hits[:0], all[:n])
				}
			})
		}
	}
}
