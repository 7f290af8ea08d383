package pipeline

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
)

func parsed(t *testing.T, conf string, lines ...string) service.MessageBatch {
	t.Helper()
	env := service.NewEnvironment()
	c, err := service.NewConfigSpec().Field(service.NewProcessorField("p")).ParseYAML("p: { parse: "+conf+" }", env)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.FieldProcessor("p")
	if err != nil {
		t.Fatal(err)
	}
	var batch service.MessageBatch
	for _, l := range lines {
		m := service.NewMessage([]byte(l))
		m.MetaSetMut("path", "x.log")
		batch = append(batch, m)
	}
	out, err := p.ProcessBatch(t.Context(), batch)
	if err != nil || len(out) != 1 || len(out[0]) != len(lines) {
		t.Fatalf("%v, %v", out, err)
	}
	for i, l := range lines {
		if was, _ := batch[i].AsBytes(); string(was) != l {
			t.Errorf("the message itself is now %q", was)
		}
		if path, _ := out[0][i].MetaGet("path"); path != "x.log" {
			t.Error("metadata are lost")
		}
	}
	return out[0]
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ conf, line, want string }{
		{"{ format: syslog }", "<13>1 2026-03-02T08:00:00Z h app 7 - - hello\n", `{"facility":"user","facility_code":1,"severity":"notice","severity_code":5,"version":"1","timestamp":"2026-03-02T08:00:00Z","host":"h","app":"app","pid":"7","message":"hello","raw":"<13>1 2026-03-02T08:00:00Z h app 7 - - hello"}`},
		{"{ format: logfmt, fields: { n: int } }", "n=5 s=\"a b\" ok", `{"n":5,"s":"a b","ok":true,"raw":"n=5 s=\"a b\" ok"}`},
		{"{ format: { csv: { fields: [a, b] } } }", "1,\"x\"", `{"a":"1","b":"x","raw":"1,\"x\""}`},
		{"{ format: { regex: { pattern: '^(?P<w>\\w+)$' } } }", "word", `{"w":"word","raw":"word"}`},
		{"{ format: json }", " {\"a\": 1}\r\n", `{"a":1}`},
		{"{ format: json }", "{\"a\":\"\xff\"}", `{"a":"�"}`},
		{"{ format: cef }", "CEF:0|v|p|1|100|n|5|src=1.2.3.4", `{"version":"0","device_vendor":"v","device_product":"p","device_version":"1","event_class_id":"100","name":"n","severity":"5","src":"1.2.3.4","raw":"CEF:0|v|p|1|100|n|5|src=1.2.3.4"}`},
	} {
		m := parsed(t, c.conf, c.line)[0]
		got, _ := m.AsBytes()
		var a, b map[string]any
		if err := json.Unmarshal(got, &a); err != nil || m.GetError() != nil {
			t.Errorf("%s: %q, %v, %v", c.conf, got, err, m.GetError())
		}
		if err := json.Unmarshal([]byte(c.want), &b); err != nil {
			t.Fatal(err)
		}
		if delete(a, "version"); !reflect.DeepEqual(a, b) {
			if delete(b, "version"); !reflect.DeepEqual(a, b) {
				t.Errorf("%s:\n got %s\nwant %s", c.conf, got, c.want)
			}
		}
	}
}

// A line that is not of the format stays, with the reason; its neighbours are what they are.
func TestParseFails(t *testing.T) {
	out := parsed(t, "{ format: { csv: { fields: [a, b] } } }", "1,2", "1", "3,4")
	if err := out[1].GetError(); err == nil || !strings.HasPrefix(err.Error(), "parse: not_csv: ") {
		t.Errorf("%v", err)
	}
	for i, want := range []string{`{"a":"1","b":"2","raw":"1,2"}`, "1", `{"a":"3","b":"4","raw":"3,4"}`} {
		if got, _ := out[i].AsBytes(); string(got) != want {
			t.Errorf("%d: %s", i, got)
		}
	}
}

// The logs of the example pipeline, each line against what the streams of a detect buffer make of it (event.Projection.Object).
func TestParseIsWhatStreamsRead(t *testing.T) {
	for file, conf := range map[string]string{"auth.log": "syslog", "access.log": "combined"} {
		text, err := os.ReadFile(filepath.Join("../../pipelines/data", file))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		d := newDecoder()
		f := plainFormats["combined"]().Projection(d.conf.Spec.Fields, nil)
		if conf == "syslog" {
			f = d.syslog(nil, nil).Projection(d.conf.Spec.Fields, nil)
		}
		for i, m := range parsed(t, "{ format: "+conf+" }", lines...) {
			got, _ := m.AsBytes()
			want := f.Object([]byte(lines[i]))
			if want == nil && m.GetError() != nil {
				continue
			}
			if string(got) != string(want) {
				t.Errorf("%s\n got %s\nwant %s", lines[i], got, want)
			}
		}
	}
}
