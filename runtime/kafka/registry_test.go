package kafka

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/seed-98920119/tocsin/runtime/credential"
	"github.com/seed-98920119/tocsin/runtime/event"
)

// fakeRegistry knows schemas by id, and by subject and version; faults come before answers, one a request.
type fakeRegistry struct {
	*httptest.Server
	mu       sync.Mutex
	byID     map[int]map[string]any
	versions map[string]map[string]any
	faults   []func(w http.ResponseWriter, r *http.Request)
	user     string // whose password is "hush"; empty: anybody may ask
	asked    []string
}

func newFakeRegistry(t testing.TB) *fakeRegistry {
	was := retryFirst
	retryFirst = time.Millisecond
	f := &fakeRegistry{byID: map[int]map[string]any{}, versions: map[string]map[string]any{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() { f.Close(); retryFirst = was })
	return f
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.URL.Path)
	if len(f.faults) > 0 {
		fault := f.faults[0]
		f.faults = f.faults[1:]
		fault(w, r)
		return
	}
	if user, pass, ok := r.BasicAuth(); f.user != "" && (!ok || user != f.user || pass != "hush") {
		status(401)(w, r)
		return
	}
	var id int
	var body any
	if _, err := fmt.Sscanf(r.URL.Path, "/schemas/ids/%d", &id); err == nil && f.byID[id] != nil {
		body = f.byID[id]
	} else if v := f.versions[r.URL.Path]; v != nil {
		body = v
	} else {
		w.WriteHeader(404)
		_, _ = w.Write([]byte(`{"error_code":40403,"message":"Schema not found"}`))
		return
	}
	_ = json.NewEncoder(w).Encode(body)
}

func (f *fakeRegistry) set(id int, kind, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byID[id] = map[string]any{"schema": text, "schemaType": kind}
}

func (f *fakeRegistry) fail(faults ...func(w http.ResponseWriter, r *http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, faults...)
}

func (f *fakeRegistry) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

func status(code int, headers ...string) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"error_code":%d,"message":"status %d"}`, code*100+1, code)
	}
}

// reset ends the connection; half sends a part of an answer before.
func reset(half bool) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		if half {
			_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"schema\":\"{"))
		}
		conn.Close()
	}
}

func says(text string) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

func (f *fakeRegistry) registry() *Registry { return &Registry{URLs: []string{f.URL}} }

const userAvro = `{"type":"record","name":"User","fields":[{"name":"name","type":"string"}]}`

func userRecord(topic string, num int32, id uint32, name string) *kgo.Record {
	v := binary.BigEndian.AppendUint32([]byte{0}, id)
	v = append(binary.AppendVarint(v, int64(len(name))), name...)
	return &kgo.Record{Topic: topic, Partition: num, Value: v}
}

// names reads blocks until n records have come, and returns the field `name` of each, or why it has none.
func namesOf(t *testing.T, r *Reader, n int) (out []string) {
	t.Helper()
	fields := &event.Fields{}
	name := fields.Add("name")
	p := event.BySchema(event.KindAvro).Projection(fields, []event.Field{name})
	for len(out) < n {
		b, err := next(t, r)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Lines {
			batch := p.NewBatch()
			batch.Source = b
			if err := p.Append(batch, b.Line(i)); err != nil {
				out = append(out, p.Reason(err)+": "+err.Error())
			} else {
				out = append(out, string(batch.Value(name, 0).Text))
			}
		}
		b.Release()
	}
	return out
}

// Whatever goes wrong for a while is waited out; a schema is asked for once.
func TestRegistryFaults(t *testing.T) {
	g := newFakeRegistry(t)
	g.set(7, "AVRO", userAvro)
	g.fail(status(500), status(503), status(429, "Retry-After", "1"), status(408), reset(false), reset(true), says(`{"schema":`), says("<html>"), says(`"`+strings.Repeat("x", registryAnswerMax)))
	faults := len(g.faults)
	f := newFake(t, 1, []string{"users"})
	f.in.Registry = g.registry()
	f.in.Registry.Log = f.in.Log
	f.put(userRecord("users", 0, 7, "ann"), userRecord("users", 0, 7, "bob"), record("users", 0, `{"name":"json"}`))
	r := f.open(nil)
	began := time.Now()
	if got := fmt.Sprint(namesOf(t, r, 3)); !strings.HasPrefix(got, "[ann bob not_avro: a record must begin with a byte 0") {
		t.Errorf("read %s", got)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("Retry-After was not waited for: %s", took)
	}
	f.put(userRecord("users", 0, 7, "eve"))
	if got := namesOf(t, r, 1); got[0] != "eve" {
		t.Errorf("read %q", got)
	}
	if n := g.count(); n != faults+1 {
		t.Errorf("asked %d times, want %d", n, faults+1)
	}
	for _, want := range []string{"schema 7: status 500; waiting, and trying again", "the answer is longer than 8 MiB"} {
		if !strings.Contains(f.log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, f.log.String())
		}
	}
}

// While a schema cannot be had its partition waits, active; those whose schemas are known go on.
func TestRegistryAway(t *testing.T) {
	was := watchEvery
	watchEvery = 10 * time.Millisecond
	defer func() { watchEvery = was }()
	g := newFakeRegistry(t)
	g.set(7, "AVRO", userAvro)
	f := newFake(t, 2, []string{"users"})
	f.in.Registry = g.registry()
	f.put(userRecord("users", 0, 7, "ann"))
	r := f.open(nil)
	if got := namesOf(t, r, 1); got[0] != "ann" {
		t.Fatalf("read %q", got)
	}
	for range 2000 {
		g.fail(status(503))
	}
	f.put(userRecord("users", 1, 8, "waits"), userRecord("users", 0, 7, "bob"))
	if got := namesOf(t, r, 1); got[0] != "bob" {
		t.Errorf("read %q", got)
	}
	beats := 0
	for beats < 3 {
		b, err := next(t, r)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Lines) > 0 {
			t.Fatalf("%s has records", b.Partition)
		}
		if b.Partition == "users/1" {
			beats++
		}
		b.Release()
	}
	g.set(8, "AVRO", userAvro)
	g.mu.Lock()
	g.faults = nil
	g.mu.Unlock()
	if got := namesOf(t, r, 1); got[0] != "waits" {
		t.Errorf("read %q", got)
	}
}

// Partitions that need the same schema ask for it once together.
func TestRegistryIsAskedOnce(t *testing.T) {
	g := newFakeRegistry(t)
	g.set(7, "AVRO", userAvro)
	f := newFake(t, 8, []string{"users"})
	f.in.Registry = g.registry()
	for i := range int32(8) {
		f.put(userRecord("users", i, 7, "ann"), userRecord("users", i, 8, "nobody"))
	}
	namesOf(t, f.open(nil), 16)
	if n := g.count(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

// What no waiting mends stops the input, with the next step; secrets are not in it.
func TestRegistryStops(t *testing.T) {
	t.Setenv("REGISTRY_PASSWORD", "wrong-secret")
	for _, x := range []struct {
		fault func(w http.ResponseWriter, r *http.Request)
		login *credential.Secret
		want  string
	}{
		{status(401), nil, "wants to know who we are: status 401; set `username` and `password_env`, or `token_env`, in `schema_registry`"},
		{status(401), &credential.Secret{Env: "REGISTRY_PASSWORD"}, "does not let us in: status 401; correct who we are in `schema_registry`"},
		{status(403), nil, "does not give us schema 7: status 403; let the user read schemas"},
		{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); _, _ = w.Write([]byte("not here")) }, nil, "has no Confluent API: HTTP status 404; correct `url`, such as http://localhost:8081"},
	} {
		g := newFakeRegistry(t)
		g.fail(status(500), x.fault)
		f := newFake(t, 1, []string{"users"})
		f.in.Registry = g.registry()
		f.in.Registry.Login, f.in.Registry.User = x.login, "tocsin"
		f.put(userRecord("users", 0, 7, "ann"))
		r := f.open(nil)
		var err error
		for err == nil {
			_, err = next(t, r)
		}
		var stop *Stop
		if !errors.As(err, &stop) || err.Error() != g.URL+" "+x.want || strings.Contains(err.Error(), "wrong-secret") {
			t.Errorf("%v, want %s", err, x.want)
		}
	}
	f := newFake(t, 1, []string{"users"})
	f.in.Registry = &Registry{URLs: []string{"http://127.0.0.1:1"}, Login: &credential.Secret{Env: "NO_SUCH_VARIABLE"}}
	if got := f.refused(nil); got != "schema_registry: the environment has no variable NO_SUCH_VARIABLE" {
		t.Error(got)
	}
}

// An id that nobody has given is an error row, with the next records behind it; a password opens the registry.
func TestRegistryUnknown(t *testing.T) {
	t.Setenv("REGISTRY_PASSWORD", "hush")
	g := newFakeRegistry(t)
	g.user = "tocsin"
	g.set(7, "AVRO", userAvro)
	g.set(9, "PROTOBUF", `syntax = "proto3"; message User { string name = 1; }`)
	f := newFake(t, 1, []string{"users"})
	f.in.Registry = g.registry()
	f.in.Registry.User, f.in.Registry.Login = "tocsin", &credential.Secret{Env: "REGISTRY_PASSWORD"}
	f.put(userRecord("users", 0, 8, "x"), userRecord("users", 0, 7, "ann"), userRecord("users", 0, 8, "y"), userRecord("users", 0, 9, "z"))
	want := []string{"no_schema: schema 8 of " + g.URL + ": Schema not found", "ann", "no_schema: schema 8 of " + g.URL + ": Schema not found",
		"not_avro: schema 9 cannot be used: it is of type protobuf, and the stream's format is avro"}
	for i, got := range namesOf(t, f.open(nil), 4) {
		if got != want[i] {
			t.Errorf("%d: %s, want %s", i, got, want[i])
		}
	}
	if n := g.count(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

func TestRegistryReferences(t *testing.T) {
	g := newFakeRegistry(t)
	ref := func(name string) map[string]any { return map[string]any{"name": name, "subject": name, "version": 1} }
	g.byID[7] = map[string]any{"schema": `{"type":"record","name":"Login","fields":[{"name":"who","type":"B"},{"name":"name","type":"string"}]}`, "references": []any{ref("B"), ref("C")}}
	g.versions["/subjects/B/versions/1"] = map[string]any{"schema": `{"type":"record","name":"B","fields":[{"name":"c","type":"C"}]}`, "references": []any{ref("C")}}
	g.versions["/subjects/C/versions/1"] = map[string]any{"schema": `{"type":"enum","name":"C","symbols":["X"]}`}
	f := newFake(t, 1, []string{"users"})
	f.in.Registry = g.registry()
	f.put(&kgo.Record{Topic: "users", Value: []byte{0, 0, 0, 0, 7, 0, 6, 'a', 'n', 'n'}})
	if got := namesOf(t, f.open(nil), 1); got[0] != "ann" {
		t.Errorf("read %q", got)
	}
	long := newFakeRegistry(t)
	for i := range referencesMax + 2 {
		long.versions["/subjects/R"+strconv.Itoa(i)+"/versions/1"] = map[string]any{"schema": `"string"`, "references": []any{ref("R" + strconv.Itoa(i+1))}}
	}
	long.byID[7] = map[string]any{"schema": userAvro, "references": []any{ref("R0")}}
	c, err := Registry{URLs: []string{long.URL}}.open()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.learn(t.Context(), []uint32{7}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.find(7); err == nil || !strings.Contains(err.Error(), "refers to more than 256 others") {
		t.Error(err)
	}
}

// What a registry says of schemas that are to be written: what no waiting mends is a *Stop, and an id is asked for once.
func TestSubjects(t *testing.T) {
	g := newFakeRegistry(t)
	for _, x := range []struct {
		fault    func(w http.ResponseWriter, r *http.Request)
		register bool
		stop     bool
		want     string
	}{
		{status(409), true, true, "subject rows-value takes no such schema: status 409; give the rows a subject of their own, or allow the change in the registry"},
		{status(422), true, true, "subject rows-value of " + g.URL + ": status 422"},
		{status(404), false, true, "subject rows-value of " + g.URL + ": status 404; register it, or set `register: true`: " + userAvro},
		{status(401), true, true, g.URL + " wants to know who we are: status 401; set `username` and `password_env`, or `token_env`, in `schema_registry`"},
		{status(503), true, false, g.URL + ": subject rows-value: status 503"},
		{reset(false), false, false, "EOF"},
	} {
		s, err := OpenSubjects(*g.registry(), x.register)
		if err != nil {
			t.Fatal(err)
		}
		g.fail(x.fault, x.fault, x.fault)
		_, err = s.ID(t.Context(), "rows-value", "User", event.KindAvro, userAvro)
		var stop *Stop
		if err == nil || !strings.Contains(err.Error(), x.want) || errors.As(err, &stop) != x.stop {
			t.Errorf("%v, want %s", err, x.want)
		}
		g.mu.Lock()
		g.faults = nil
		g.mu.Unlock()
	}
	s, err := OpenSubjects(*g.registry(), false)
	if err != nil {
		t.Fatal(err)
	}
	g.fail(says(`{"subject":"rows-value","id":41,"version":1,"schema":"{}"}`))
	for range 3 {
		if id, err := s.ID(t.Context(), "rows-value", "User", event.KindAvro, userAvro); err != nil || id != 41 {
			t.Errorf("%d, %v", id, err)
		}
	}
	g.fail(says(`{"is_compatible":false,"messages":["field a\n is gone"]}`))
	up, err := OpenSubjects(*g.registry(), true)
	if err != nil {
		t.Fatal(err)
	}
	if why, err := up.Check(t.Context(), "rows-value", event.KindAvro, userAvro); err != nil || why != "subject rows-value: the schema of the rows is not compatible with the one that is registered: field a is gone" {
		t.Errorf("%s, %v", why, err)
	}
	if why, err := up.Check(t.Context(), "rows-value", event.KindAvro, userAvro); err != nil || why != "" { // the fake has no subject
		t.Errorf("%s, %v", why, err)
	}
}
