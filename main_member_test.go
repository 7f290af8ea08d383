package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const memberPipeline = `
input: { kafka_records: { seed_brokers: [BROKER], topics: [members], group: members } }
output: { file_rows: { path: ROWS } }
`

// Processes share a topic, come, go and are killed, while records arrive: each record is with one of them at least, and the group is at the end.
func TestMembersKilled(t *testing.T) { membersKilled(t, fakeBroker(t), 3000, 4, func(*rand.Rand) {}) }

// memberProcess is a process that is a member, with rows of its own.
type memberProcess struct {
	*process
	rows string
}

func membersKilled(t *testing.T, broker string, events, rounds int, disturb func(r *rand.Rand)) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	client := kafkaClient(t, broker, "members")
	binary, dir := build(t), t.TempDir()
	var all []*memberProcess
	begin := func() *memberProcess {
		p := &memberProcess{rows: filepath.Join(dir, fmt.Sprintf("rows%d.jsonl", len(all)))}
		pipeline := filepath.Join(dir, fmt.Sprintf("member%d.yaml", len(all)))
		if err := os.WriteFile(pipeline, []byte(strings.NewReplacer("BROKER", broker, "ROWS", p.rows).Replace(memberPipeline)), 0o644); err != nil {
			t.Fatal(err)
		}
		p.process = started(t, binary, pipeline)
		all = append(all, p)
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // a signal before it listens would end it: it has written, or joined
			if _, err := os.Stat(p.rows); err == nil {
				return p
			} else if time.Now().After(end) {
				t.Fatal(p.said.String())
			}
		}
	}
	var producing sync.WaitGroup
	producing.Go(func() { produceNumbers(t, rand.New(rand.NewPCG(seed, 2)), client, events) })
	running := []*memberProcess{begin(), begin()}
	for range rounds {
		time.Sleep(time.Duration(r.IntN(2500)) * time.Millisecond)
		switch i := r.IntN(len(running)); {
		case len(running) < 4 && r.IntN(3) == 0:
			running = append(running, begin())
		case r.IntN(3) == 0:
			running[i].end(t, syscall.SIGTERM)
			running[i] = begin()
		default:
			running[i].end(t, syscall.SIGKILL)
			running[i] = begin()
		}
		disturb(r)
	}
	producing.Wait()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if at := groupAt(t, client); at == int64(events) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the group is at %d of %d\n%s", at, events, running[0].said.String())
		}
	}
	for _, p := range running {
		p.end(t, syscall.SIGTERM)
	}
	seen, twice := map[int]bool{}, 0
	for _, p := range all {
		for _, n := range numbersIn(t, p.rows) {
			if seen[n] {
				twice++
			}
			seen[n] = true
		}
	}
	if len(seen) != events {
		t.Errorf("seed %d: %d of %d records", seed, len(seen), events)
	}
	t.Logf("%d processes, %d records, %d again", len(all), len(seen), twice)
}

// produceNumbers produces records with the numbers from 0 on.
func produceNumbers(t *testing.T, r *rand.Rand, client *kgo.Client, events int) {
	for n := range events {
		value := fmt.Appendf(nil, `{"n":%d}`, n)
		client.Produce(t.Context(), &kgo.Record{Topic: "members", Key: fmt.Append(nil, n%97), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
		if n%50 == 0 {
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		}
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

// groupAt is how many records the group has behind it.
func groupAt(t *testing.T, client *kgo.Client) (at int64) {
	offsets, err := kadm.NewClient(client).FetchOffsets(t.Context(), "members")
	if err != nil {
		return 0 // a broker that is away
	}
	offsets.Each(func(o kadm.OffsetResponse) { at += max(o.At, 0) })
	return at
}

// numbersIn are those in a file of rows; a last line that a kill cut off is none.
func numbersIn(t *testing.T, path string) (out []int) {
	for _, line := range strings.SplitAfter(readAll(path), "\n") {
		var row struct{ N *int }
		if !strings.HasSuffix(line, "\n") {
			continue
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil || row.N == nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, *row.N)
	}
	return out
}
