package engine

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/event"
	"github.com/seed-98920119/tocsin/runtime/operator"
)

// onceSpec is runnerSpec over streams that drop what comes again within a time, and a filter that says every event of the first one.
func onceSpec(t testing.TB, id Identity) *Spec {
	s := runnerSpec(t)
	readers := append(s.Operators, Operator{Name: "all", Inputs: []int{0}, Filter: &Filter{Ident: operator.Ident{Pipeline: "p", Operator: "all", Form: "filter/1"}},
		Leaves: true, Fingerprint: "all", Names: []alert.Column{{Field: s.Fields.Add(event.Whole)}}})
	s.Operators = nil
	for i := range s.Streams {
		s.Streams[i].ID = id
		if id.ByField {
			s.Streams[i].Reads = append(s.Streams[i].Reads, id.Field)
			slices.Sort(s.Streams[i].Reads)
			s.Streams[i].Reads = slices.Compact(s.Streams[i].Reads)
		}
		s.Operators = append(s.Operators, s.Once(i))
	}
	for _, o := range readers {
		for k := range o.Inputs {
			o.Inputs[k] += len(s.Streams)
		}
		s.Operators = append(s.Operators, o)
	}
	return s
}

// again has lines of the files come again, behind themselves.
func again(r *rand.Rand, files []file) (out []file, more int) {
	for _, f := range files {
		lines := slices.Clone(f.lines)
		for range 1 + r.IntN(60) {
			from := r.IntN(len(lines))
			if !strings.Contains(lines[from], `"v":`) || !strings.HasSuffix(lines[from], "}") {
				continue // an error row, which has its position for an id
			}
			lines = slices.Insert(lines, from+1+r.IntN(len(lines)-from), lines[from])
			more++
		}
		out = append(out, file{f.path, lines})
	}
	return out, more
}

func hourContent(t testing.TB) *Spec { return onceSpec(t, Identity{Content: true, Within: 3_600_000}) }

// What comes again changes nothing.
func TestOnceIsAsIfNothingCameAgain(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 4 {
		files := randomFiles(r)
		for i := range files { // what stands twice in the first place is not the matter
			seen := map[string]bool{}
			files[i].lines = slices.DeleteFunc(files[i].lines, func(l string) bool { was := seen[l]; seen[l] = true; return was })
		}
		twice, more := again(r, files)
		if more == 0 {
			t.Fatalf("seed %d: nothing comes again", seed)
		}
		rows := func(s *sink) map[string]string {
			return maps.Collect(func(yield func(id, text string) bool) {
				for id, text := range s.byID {
					if !strings.HasPrefix(text, "error") && !yield(id, text) {
						return
					}
				}
			})
		}
		want, got := rows(undisturbed(t, r, hourContent(t), files, Options{})), rows(undisturbed(t, r, hourContent(t), twice, Options{Shards: 1 + r.IntN(4), BlockRows: 1 + r.IntN(50), Memory: r.Int64N(2) * 20_000}))
		if !maps.Equal(got, want) || len(want) < 100 {
			t.Fatalf("seed %d: %d rows, want %d", seed, len(got), len(want))
		}
	}
}

// Runs that are cut short drop what they would have dropped.
func TestRestartsOfOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range 2 {
		files, _ := again(r, randomFiles(r))
		testRestart(t, seed, r, hourContent, files, round == 0)
	}
}

// What is dropped, and what ids are, in plain terms: event by event, by its content or a field, of one file.
func TestOnceAgainstAModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	dropped, late, lacking := int64(0), 0, 0
	for n := range 30 {
		within := 1 + r.Int64N(20_000)
		byField := n%2 == 0
		f := file{path: "a1"}
		now := int64(1_772_000_000_000)
		type kept struct{ newest, until int64 }
		seen, w := map[string]kept{}, int64(operator.NegInf)
		var want []string
		var drops int64
		for off := 0; len(f.lines) < 300; {
			now += r.Int64N(600)
			ts := now - r.Int64N(5000)
			line := fmt.Sprintf(`{"t":"%s","k":"k%d","v":%d}`, event.AppendTime(nil, ts), r.IntN(12), r.IntN(40))
			if len(f.lines) > 0 && r.IntN(3) == 0 {
				line = f.lines[r.IntN(len(f.lines))]
				when, _ := time.Parse(time.RFC3339, strings.Split(line, `"`)[3])
				ts = when.UnixMilli()
			}
			if r.IntN(20) == 0 {
				line = fmt.Sprintf(`{"t":"%s","k":"none"}`, event.AppendTime(nil, ts))
			}
			h := sha256.Sum256([]byte(line))
			id := event.Hash([]byte("content"), []byte("a"), h[:])
			if _, v, ok := strings.Cut(strings.TrimSuffix(line, "}"), `"v":`); byField && ok {
				id = event.Hash([]byte("field"), []byte("a"), event.AppendKey(nil, event.Value{Kind: event.Number, Text: []byte(v)}))
			} else if byField {
				lacking++
				id = event.EventID(event.PartitionSeed("a1"), int64(off))
			}
			off += len(line) + 1
			f.lines = append(f.lines, line)
			x, known := seen[id.String()]
			if known && x.until <= w {
				known = false
			}
			if known && ts < x.newest+within {
				drops++
			} else {
				want = append(want, event.Hash([]byte("p"), []byte("all"), []byte("row"), []byte("filter/1"), id[:]).String()+line)
				if ts < w {
					late++
				}
			}
			if !known {
				x = kept{ts, operator.NegInf}
			}
			x.newest, x.until = max(x.newest, ts), max(x.until, max(ts, w)+within)
			seen[id.String()] = x
			w = max(w, ts-2000)
		}
		spec := onceSpec(t, Identity{Content: !byField, Within: within})
		if byField {
			spec = onceSpec(t, Identity{ByField: true, Field: spec.Fields.Add("v"), Within: within})
		}
		run, store := startRunner(t, spec, t.TempDir(), Options{Shards: 1 + r.IntN(3), BlockRows: 1 + r.IntN(100), Memory: r.Int64N(2) * 20_000})
		go feed(rand.New(rand.NewPCG(r.Uint64(), 1)), run, []file{f})
		var got []string
		drain(t, run, func(_ *testing.T, o *Out) {
			if o.Operator == "all" {
				got = append(got, o.ID.String()+string(o.Payload))
			}
			if o.Kind == "late" && o.Stream != "a" {
				t.Errorf("a late row is of the stream %q", o.Stream)
			}
		})
		if err := run.Close(); err != nil {
			t.Fatal(err)
		}
		store.Close()
		if rep := run.final; !slices.Equal(got, want) || rep.Streams[0].Repeated != drops || rep.Stats.Repeated != drops {
			t.Fatalf("seed %d, case %d: %d events, %d dropped, want %d and %d", seed, n, len(got), rep.Streams[0].Repeated, len(want), drops)
		}
		dropped += drops
	}
	if dropped == 0 || late == 0 || lacking == 0 {
		t.Errorf("%d dropped, %d late, %d without the field: the cases do not cover them", dropped, late, lacking)
	}
}
