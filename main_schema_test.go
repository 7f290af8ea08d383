package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/encoding/protowire"
)

// schemaYAML counts logins of Avro, alerts of Protobuf and requests of JSON Schema, and writes the counts as Avro.
const schemaYAML = `
input:
  kafka_records: { seed_brokers: ["BROKER"], topics: [logins, ids, web], until: end, schema_registry: { url: "REGISTRY" } }
buffer:
  detect:
    name: schemas
    state: DIR/state
    streams:
      logins: { match: { topic: logins }, format: avro, time: { field: time }, fields: { source_ip: ip, bytes: float } }
      ids: { match: { topic: ids }, format: protobuf, time: { field: at.time }, fields: { severity: int } }
      web: { match: { topic: web }, format: { json_schema: { validate: true } }, time: { field: time } }
    operators:
      attempts: { window: { from: logins, tumbling: 20s, key: source_ip, aggregate: { n: count, mb: { sum: bytes } } } }
      seen: { window: { from: ids, tumbling: 20s, key: severity, aggregate: { n: count } } }
      requests: { window: { from: web, tumbling: 20s, key: path, aggregate: { n: count } } }
output:
  kafka_rows: { seed_brokers: ["BROKER"], topic: rows, encoding: avro, schema_registry: { url: "REGISTRY", subject: topic_record } }
`

// The schema of logins evolves: a field with a default is added and another becomes wider, then one is removed.
var loginSchemas = []string{
	`{"type":"record","name":"Login","fields":[{"name":"time","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"user","type":"string"},{"name":"source_ip","type":"string"},{"name":"bytes","type":"int"}]}`,
	`{"type":"record","name":"Login","fields":[{"name":"time","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"method","type":"string","default":"password"},{"name":"user","type":"string"},{"name":"source_ip","type":["null","string"],"default":null},{"name":"bytes","type":"long"}]}`,
	`{"type":"record","name":"Login","fields":[{"name":"time","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"source_ip","type":["null","string"],"default":null},{"name":"bytes","type":"long"}]}`,
}

const (
	idsSchema = `syntax = "proto3"; message Other {} message Alert { message At { string time = 1; } At at = 3; int32 severity = 7; repeated string tags = 8; }`
	webSchema = `{"type":"object","required":["path"],"properties":{"path":{"type":"string"},"time":{"type":"string"}}}`
)

// shop produces records with schemas and counts them.
type shop struct {
	t      *testing.T
	r      *rand.Rand
	client *kgo.Client
	ids    map[string][]uint32
	at     time.Time
	want   map[string]int // "operator key window_start" -> n
	bytes  map[string]int
	errors int
}

func (s *shop) register(cl *sr.Client) {
	s.ids = map[string][]uint32{}
	add := func(topic string, schema sr.Schema) {
		var found sr.SubjectSchema
		var err error
		for range 50 { // a fresh registry may not be all there
			if found, err = cl.CreateSchema(s.t.Context(), topic+"-value", schema); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		s.ids[topic] = append(s.ids[topic], uint32(found.ID))
	}
	for _, text := range loginSchemas {
		add("logins", sr.Schema{Schema: text})
	}
	add("ids", sr.Schema{Schema: idsSchema, Type: sr.TypeProtobuf})
	add("web", sr.Schema{Schema: webSchema, Type: sr.TypeJSON})
}

func (s *shop) count(operator, key string) string {
	k := fmt.Sprintf("%s %s %d", operator, key, s.at.UnixMilli()/20_000*20_000)
	s.want[k]++
	return k
}

// produce sends n records of every topic; the schema of logins changes with time.
func (s *shop) produce(n int) {
	put := func(topic, key string, id uint32, body []byte) {
		s.client.Produce(s.t.Context(), &kgo.Record{Topic: topic, Key: []byte(key), Value: append(binary.BigEndian.AppendUint32([]byte{0}, id), body...)}, func(_ *kgo.Record, err error) {
			if err != nil {
				s.t.Error(err)
			}
		})
	}
	for i := range n {
		s.at = s.at.Add(time.Duration(s.r.IntN(300)) * time.Millisecond)
		version := min(i*4/n, 2)
		if i%7 == 0 { // producers are not updated all at once
			version = s.r.IntN(3)
		}
		ip, size := fmt.Sprintf("203.0.113.%d", s.r.IntN(9)), s.r.IntN(5000)
		schema := avro.MustParse(loginSchemas[version])
		var source any = ip
		if version > 0 {
			source = map[string]any{"string": ip}
		}
		var wide any = int64(size)
		if version == 0 {
			wide = size
		}
		body, err := avro.Marshal(schema, map[string]any{"time": s.at, "user": "ann", "source_ip": source, "bytes": wide, "method": "key"})
		if err != nil {
			s.t.Fatal(err)
		}
		put("logins", ip, s.ids["logins"][version], body)
		s.bytes[s.count("attempts", ip)] += size

		severity := s.r.IntN(4)
		when := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), s.at.Format("2006-01-02T15:04:05.000Z"))
		body = protowire.AppendBytes(protowire.AppendTag([]byte{2, 2}, 3, protowire.BytesType), when)
		if severity > 0 {
			body = protowire.AppendVarint(protowire.AppendTag(body, 7, protowire.VarintType), uint64(severity))
		}
		put("ids", ip, s.ids["ids"][0], body)
		s.count("seen", fmt.Sprint(severity))

		if s.r.IntN(50) == 0 {
			put("web", ip, s.ids["web"][0], []byte(`{"path":5}`))
			s.errors++
			continue
		}
		path := fmt.Sprintf("/%d", s.r.IntN(5))
		put("web", ip, s.ids["web"][0], []byte(`{"path":"`+path+`","time":"`+s.at.Format("2006-01-02T15:04:05.000Z")+`"}`))
		s.count("requests", path)
	}
	if err := s.client.Flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// schemaRows reads the rows' topic by the schemas that are registered for it.
func schemaRows(t *testing.T, client *kgo.Client, cl *sr.Client, broker string) (rows, bytes map[string]int, faults []string) {
	t.Helper()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), "rows")
	if err != nil {
		t.Fatal(err)
	}
	all := int64(0)
	ends.Each(func(o kadm.ListedOffset) { all += o.Offset })
	reader, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics("rows"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	rows, bytes = map[string]int{}, map[string]int{}
	schemas := map[uint32]avro.Schema{}
	ctx, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	for n := int64(0); n < all; {
		f := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d rows came", n, all)
		}
		f.EachRecord(func(rec *kgo.Record) {
			n++
			id := binary.BigEndian.Uint32(rec.Value[1:])
			if schemas[id] == nil {
				s, err := cl.SchemaByID(ctx, int(id))
				if err != nil {
					t.Fatal(err)
				}
				schemas[id] = avro.MustParse(s.Schema)
			}
			var row map[string]any
			if err := avro.Unmarshal(schemas[id], rec.Value[5:], &row); err != nil {
				t.Fatal(err)
			}
			name := schemas[id].(avro.NamedSchema).FullName()
			if name == "tocsin.Document" {
				faults = append(faults, fmt.Sprint(row["json"]))
				return
			}
			operator := strings.TrimPrefix(name, "tocsin.schemas.")
			key := map[string]string{"attempts": "source_ip", "seen": "severity", "requests": "path"}[operator]
			k := fmt.Sprintf("%s %v %d", operator, plain(row[key]), plain(row["window_start"]).(time.Time).UnixMilli())
			if _, ok := rows[k]; ok {
				t.Errorf("%s is there twice", k)
			}
			rows[k] = int(plain(row["n"]).(int64))
			if mb, ok := plain(row["mb"]).(float64); ok {
				bytes[k] = int(mb)
			}
		})
	}
	return rows, bytes, faults
}

// plain is the value of a union.
func plain(v any) any {
	if m, ok := v.(map[string]any); ok {
		for _, x := range m {
			return x
		}
	}
	return v
}

// Records with schemas over a registry, evolving in mid-stream, and rows with schemas out of it.
func TestSchemas(t *testing.T) {
	registry := srfake.New()
	t.Cleanup(registry.Close)
	schemaExample(t, fakeBroker(t), registry.URL())
}

func TestIntegrationSchemas(t *testing.T) {
	broker, _ := realServer(t, "kafka", "19592")
	registry, _ := realServer(t, "registry", "19481")
	schemaExample(t, broker, registry)
}

func schemaExample(t *testing.T, broker, registry string) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	client := kafkaClient(t, broker, "logins", "ids", "web", "rows")
	cl, err := sr.NewClient(sr.URLs(registry))
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, r: rand.New(rand.NewPCG(seed, 1)), client: client, at: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC), want: map[string]int{}, bytes: map[string]int{}}
	s.register(cl)
	s.produce(1500)
	binary, dir := build(t), t.TempDir()
	file := filepath.Join(dir, "pipeline.yaml")
	text := strings.NewReplacer("BROKER", broker, "REGISTRY", registry, "DIR", dir).Replace(schemaYAML)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "run", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	compare := func() {
		t.Helper()
		rows, size, faults := schemaRows(t, client, cl, broker)
		if !maps.Equal(rows, s.want) || !maps.Equal(size, s.bytes) {
			t.Errorf("%d rows, want %d; seed %d", len(rows), len(s.want), seed)
			for _, k := range slices.Sorted(maps.Keys(s.want)) {
				if rows[k] != s.want[k] || size[k] != s.bytes[k] {
					t.Errorf("%s: %d, %d, want %d, %d", k, rows[k], size[k], s.want[k], s.bytes[k])
					break
				}
			}
		}
		if len(faults) != s.errors || s.errors == 0 {
			t.Errorf("%d error rows, want %d", len(faults), s.errors)
		}
		for _, f := range faults {
			var row struct{ Error, Detail string }
			if err := json.Unmarshal([]byte(f), &row); err != nil || row.Error != "not_json_schema" || !strings.HasPrefix(row.Detail, "it is not valid by its schema: at /") {
				t.Errorf("%s", f)
			}
		}
	}
	compare()
	schemaStops(t, s, cl, binary, file)
	compare()
	if *integration { // the registry within the tests takes everything
		kafkaClient(t, broker, "logins2")
		schemaRefused(t, cl, binary, file, dir)
	}
}

// schemaRefused has schemas registered that neither the streams nor the rows go with: lint --online says so, and no row is written.
func schemaRefused(t *testing.T, cl *sr.Client, binary, file, dir string) {
	t.Helper()
	for subject, field := range map[string]string{"rows-tocsin.schemas.more": `{"name":"n","type":"string"}`, "logins2-value": `{"name":"source_ip","type":"int"}`} {
		if _, err := cl.CreateSchema(t.Context(), subject, sr.Schema{Schema: `{"type":"record","namespace":"tocsin.schemas","name":"more","fields":[` + field + `]}`}); err != nil {
			t.Fatal(err)
		}
		for _, r := range cl.SetCompatibility(t.Context(), sr.SetCompatibility{Level: sr.CompatBackward}, subject) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("attempts:", "more:", dir+"/state", dir+"/state2", "[logins,", "[logins2,", "topic: logins }", "topic: logins2 }").Replace(string(src))
	bad := filepath.Join(dir, "refused.yaml")
	if err := os.WriteFile(bad, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"lint", "--online", bad}, {"run", bad}} {
		out, err := exec.Command(binary, args...).CombinedOutput()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() == 0 {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		want := []string{"subject rows-tocsin.schemas.more: the schema of the rows is not compatible with the one that is registered"}
		if args[0] == "lint" {
			want = append(want, bad+":3:", "topic logins2, stream logins: ", "field source_ip is declared to be of type ip, and is an integer there")
		}
		for _, w := range want {
			if !bytes.Contains(out, []byte(w)) {
				t.Errorf("%v does not say %q:\n%s", args, w, out)
			}
		}
	}
	if out, err := exec.Command(binary, "lint", "--online", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// schemaStops brings logins a schema that is not what the stream says: it stops, and the others go on; and rows that the registry does
// not take.
func schemaStops(t *testing.T, s *shop, cl *sr.Client, binary, file string) {
	t.Helper()
	bad, err := cl.CreateSchema(t.Context(), "elsewhere-value", sr.Schema{Schema: `{"type":"record","name":"Login","fields":[{"name":"time","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"source_ip","type":"long"}]}`})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 { // of all partitions
		rec := &kgo.Record{Topic: "logins", Key: []byte(fmt.Sprintf("203.0.113.%d", i)), Value: append(framed(uint32(bad.ID)), 2, 2)}
		if err := s.client.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(binary, "run", file).CombinedOutput()
	want := fmt.Sprintf("schema %d does not fit the stream: field source_ip is declared to be of type ip, and is an integer there; correct `fields` or the schema and start again; everything else goes on", bad.ID)
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !bytes.Contains(out, []byte(want)) {
		t.Errorf("%v\n%s\nwant %s", err, out, want)
	}
	if n := bytes.Count(out, []byte("logins/")); n == 0 {
		t.Errorf("it does not say where:\n%s", out)
	}
}

func framed(id uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0}, id) }
