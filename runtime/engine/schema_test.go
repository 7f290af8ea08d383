package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/event"
)

// schemaSpec has stream a in Avro, b in JSON.
func schemaSpec(t *testing.T, types map[string]string) *Spec {
	s := runnerSpec(t)
	s.Streams[0].Format = event.BySchema(event.KindAvro).Typed(types)
	return s
}

func avroSchemas(id uint32) (*event.Schema, error) {
	v := map[uint32]string{1: `"int"`, 2: `"string"`, 3: `"long"`}[id]
	if v == "" {
		return nil, fmt.Errorf("schema %d is not there", id)
	}
	return event.NewSchema(int(id), event.KindAvro, `{"type":"record","name":"R","fields":[{"name":"t","type":"string"},{"name":"k","type":"string"},{"name":"v","type":`+v+`}]}`, nil), nil
}

// avroBlock is records of a1 from an offset on, a second each, by the ids of their schemas; 0 is a record that is none.
func avroBlock(live bool, from int, ids ...byte) *event.Block {
	b := &event.Block{Partition: "a1", Meta: map[string]string{"path": "a1"}, Live: live, Schemas: avroSchemas}
	for i, id := range ids {
		at := uint32(len(b.Data))
		b.Data = append(b.Data, 0, 0, 0, 0, id)
		if id == 0 {
			b.Data = append(b.Data, 0xff)
		} else {
			b.Data = append(append(b.Data, 40), fmt.Sprintf("2026-03-02T08:00:%02dZ", from+i)...)
			b.Data = append(b.Data, 2, 'x', 0) // a number, or a text without bytes
		}
		b.Lines = append(b.Lines, event.Line{Off: int64(from + i), Next: int64(from + i + 1), Start: at, End: uint32(len(b.Data))})
	}
	return b
}

func jsonBlock(live bool, from, n int) *event.Block {
	b := &event.Block{Partition: "b1", Meta: map[string]string{"path": "b1"}, Live: live}
	for i := from; i < from+n; i++ {
		at := uint32(len(b.Data))
		b.Data = append(b.Data, fmt.Sprintf(`{"t":"2026-03-02T08:00:%02dZ","k":"y","v":1}`, i)...)
		b.Lines = append(b.Lines, event.Line{Off: int64(i), Next: int64(i + 1), Start: at, End: uint32(len(b.Data))})
	}
	return b
}

// A record whose schema does not fit its stream stops the partition there, and nothing else; a later start goes on with it.
func TestSchemaThatDoesNotFit(t *testing.T) {
	const why = "a1 stops at position 2: schema 2 does not fit the stream: field v is declared to be of type int, and is string there; correct `fields` or the schema and start again; everything else goes on"
	for _, live := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "s")
		var said []string
		released := 0
		run, store := startRunner(t, schemaSpec(t, map[string]string{"v": "int"}), dir, Options{Warn: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }})
		blocks := []*event.Block{avroBlock(live, 0, 1, 3, 2, 1), avroBlock(live, 4, 1), jsonBlock(live, 0, 3), jsonBlock(live, 3, 3)}
		for _, b := range blocks {
			b.OnRelease(func(b *event.Block) {
				if b.Partition == "a1" {
					released++
				}
			})
		}
		for _, name := range []string{"a1", "b1"} {
			run.Push(&event.Block{Partition: name, Meta: map[string]string{"path": name}, Live: live, Mark: event.Announce})
		}
		for _, b := range blocks {
			run.Push(b)
		}
		for _, name := range []string{"a1", "b1"} {
			run.Push(&event.Block{Partition: name, Meta: map[string]string{"path": name}, Live: live, Mark: event.Finished})
		}
		run.End(true)
		rows, err := run.Next(context.Background())
		for ; err == nil; rows, err = run.Next(context.Background()) {
			run.Settle(rows, nil)
		}
		if err.Error() != why || !slices.Equal(said, []string{why}) {
			t.Errorf("live %v: %v, said %q", live, err, said)
		}
		if want := []Halt{{"a1", 2, "schema 2 does not fit the stream: field v is declared to be of type int, and is string there"}}; !slices.Equal(run.Halts(), want) {
			t.Errorf("live %v: %v", live, run.Halts())
		}
		if err := run.Close(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("live %v: the run ended without an error: %v", live, err)
		}
		if got := run.Stats(); got.Events != 8 || got.Errors != 0 {
			t.Errorf("live %v: %d events, %d errors, want 8 and none", live, got.Events, got.Errors)
		}
		if want := map[bool]int{false: 2, true: 0}[live]; released != want { // a live input reads no further
			t.Errorf("live %v: %d blocks were released, want %d", live, released, want)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		run, store = startRunner(t, schemaSpec(t, nil), dir, Options{})
		if at := run.Positions()["a1"].Offset; at != 2 {
			t.Errorf("live %v: goes on at %d, want 2", live, at)
		}
		run.Push(&event.Block{Partition: "a1", Meta: map[string]string{"path": "a1"}, Live: live, Mark: event.Announce})
		run.Push(avroBlock(live, 2, 2, 1, 1))
		for run.Stats().Events < 3 {
			time.Sleep(time.Millisecond)
		}
		if err := run.Close(); err != nil {
			t.Error(err)
		}
		store.Close()
	}
}

// Of a record that cannot be read the error row has the bytes; a late event is shown as JSON.
func TestRecordsInRows(t *testing.T) {
	run, store := startRunner(t, schemaSpec(t, nil), filepath.Join(t.TempDir(), "s"), Options{})
	defer store.Close()
	run.Push(&event.Block{Partition: "a1", Meta: map[string]string{"path": "a1"}, Mark: event.Announce})
	run.Push(&event.Block{Partition: "b1", Meta: map[string]string{"path": "b1"}, Mark: event.Announce})
	run.Push(&event.Block{Partition: "b1", Meta: map[string]string{"path": "b1"}, Mark: event.Finished})
	b := avroBlock(false, 10, 1, 0, 2)
	b.Data[b.Lines[2].Start+4] = 9 // nobody knows it
	run.Push(b)
	run.Push(avroBlock(false, 59, 1))
	late := avroBlock(false, 0, 1)
	late.Lines[0].Off, late.Lines[0].Next = 60, 61
	run.Push(late)
	run.Push(&event.Block{Partition: "a1", Meta: map[string]string{"path": "a1"}, Mark: event.Finished})
	run.End(true)
	var got []string
	drain(t, run, func(_ *testing.T, o *Out) {
		if o.Kind == "error" || o.Kind == "late" && o.Operator == "count" {
			got = append(got, o.Kind+" "+o.Reason+" "+string(o.Payload))
		}
	})
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	want := `error no_schema {"error":"no_schema","detail":"schema 0 is not there","source":"a1","offset":11,"raw_base64":"AAAAAAD/"}
error no_schema {"error":"no_schema","detail":"schema 9 is not there","source":"a1","offset":12,"raw_base64":"AAAAAAkoMjAyNi0wMy0wMlQwODowMDoxMloCeAA="}
late late {"t":"2026-03-02T08:00:00Z","k":"x","v":0}`
	if strings.Join(got, "\n") != want {
		t.Errorf("%s\nwant %s", strings.Join(got, "\n"), want)
	}
}
