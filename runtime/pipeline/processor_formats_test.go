package pipeline

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Alerts become documents, everything else passes byte for byte, and what only looks like an alert is an error with its payload.
func TestFormats(t *testing.T) {
	const (
		good  = `{"id":"abc","rule":{"id":"r","name":"r","source":"pipeline","version":"1"},"title":"t","severity":"low","risk_score":25,"time":"2026-01-01T00:00:00.000Z","count":1,"entities":[{"type":"ip","field":"ip","role":"source","value":"10.0.0.1"}],"row":{"ip":"10.0.0.1"}}`
		plain = `{ "title": "spaces stay" }`
	)
	run := func(p service.BatchProcessor) service.MessageBatch {
		message := func(payload, kind, revision string) *service.Message {
			m := service.NewMessage([]byte(payload))
			m.MetaSetMut("operator", "o")
			if kind != "" {
				m.MetaSetMut("kind", kind)
				m.MetaSetMut("revision", revision)
			}
			return m
		}
		in := service.MessageBatch{message(good, "alert", "2"), message(plain, "row", "0"), message(good, "", ""), message(good, "late", "0"), message(plain, "alert", "0"), message("text", "alert", "0")}
		out, err := p.ProcessBatch(context.Background(), in)
		if b, _ := in[0].AsBytes(); string(b) != good || in[4].GetError() != nil {
			t.Errorf("the messages themselves have changed, which others may have: %s", b)
		}
		if err != nil || len(out) != 1 || len(out[0]) != 6 {
			t.Fatalf("%v, %v", out, err)
		}
		return out[0]
	}
	for yaml, want := range map[string][2]string{ // a path in the document that is made of the alert
		"ocsf: {}":                    {"class_uid", "2004"},
		"ocsf: { version: 1.1.0 }":    {"type_uid", "200402"},
		"ocsf: { version: \"1.3.0\"}": {"count", "1"},
		"ecs: {}":                     {"message", `"t"`},
		"ecs: { version: 9.4.0 }":     {"source", `{"address":"10.0.0.1","ip":"10.0.0.1"}`},
	} {
		name, _, _ := strings.Cut(yaml, ":")
		p, err := newFormats(t, name, strings.TrimPrefix(yaml, name+": "))
		if err != nil {
			t.Fatalf("%s: %v", yaml, err)
		}
		out := run(p)
		for i, payload := range []string{"", plain, good, good, plain, "text"} {
			b, err := out[i].AsBytes()
			if err != nil {
				t.Fatal(err)
			}
			fault := out[i].GetError()
			if meta(out[i], "operator") != "o" || i > 0 && string(b) != payload || (fault != nil) != (i >= 4) || fault != nil && !strings.HasPrefix(fault.Error(), name+": the payload is no alert") {
				t.Errorf("%s: message %d: %s, %v", yaml, i, b, fault)
			}
			if i == 0 {
				var doc map[string]json.RawMessage
				if err := json.Unmarshal(b, &doc); err != nil || string(doc[want[0]]) != want[1] || meta(out[i], "kind") != "alert" {
					t.Errorf("%s: %v: %s", yaml, err, b)
				}
			}
		}
		if out := run(p); out[0].GetError() != nil {
			t.Error("the second batch fails")
		}
	}
	for yaml, want := range map[string]string{"{ version: 2.0.0 }": "there is 1.1.0", "{ version: \"1.4\" }": `did you mean "1.4.0"?`} {
		if _, err := newFormats(t, "ocsf", yaml); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", yaml, err)
		}
	}
	if _, err := newFormats(t, "ecs", "{ version: 1.0.0 }"); err == nil || !strings.Contains(err.Error(), "there is 9.4.0") {
		t.Error(err)
	}
}

func newFormats(t *testing.T, name, yaml string) (service.BatchProcessor, error) {
	t.Helper()
	spec, create := ocsfSpec(), newOCSF
	if name == "ecs" {
		spec, create = ecsSpec(), newECS
	}
	conf, err := spec.ParseYAML(yaml, nil)
	if err != nil {
		t.Fatal(err)
	}
	return create(conf)
}
