package event

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const loginJSONSchema = `{"title":"Login","type":"object","required":["user"],"properties":{"user":{"type":"string","minLength":2},"bytes":{"type":["null","integer"]},"who":{"$ref":"https://acme.example/who.json"}}}`

// A record of JSON Schema is its JSON; whether it is valid counts if somebody asks.
func TestJSONSchemaRecords(t *testing.T) {
	who := []Reference{{"https://acme.example/who.json", `{"type":"object","properties":{"id":{"type":"integer"}}}`}}
	s := NewSchema(7, KindJSONSchema, loginJSONSchema, who)
	plain := BySchema(KindJSONSchema)
	for _, x := range []struct {
		format *Format
		record string
		want   string
	}{
		{plain, ` {"user":"a\u006en","who":{"id":5}} ` + "\n", "ann 5 Login"},
		{plain, `{"user":"x"}`, "x  Login"},
		{plain.Validated(), `{"user":"ann","bytes":null}`, "ann  Login"},
		{plain.Validated(), `{"user":"x"}`, "not_json_schema: it is not valid by its schema: at /user: minLength: got 1, want 2"},
		{plain.Validated(), `{"user":"ann","who":{"id":"5"}}`, "not_json_schema: it is not valid by its schema: at /who/id: got string, want integer"},
		{plain.Validated(), `{}`, "not_json_schema: it is not valid by its schema: at /: missing property 'user'"},
		{plain, `[1]`, "not_json_schema: not a JSON object at byte 5"},
		{plain, `{"user":}`, "not_json_schema: a value must come here at byte 13"},
		{plain, "{\"user\":\"\xff\"}", "\ufffd  Login"},
	} {
		p, b, got, err := recordCells(x.format, registered(s), framed(7, []byte(x.record)), []string{"user", "who.id", "_schema"})
		var is string
		if err != nil {
			is = p.Reason(err) + ": " + err.Error()
		} else {
			is = fmt.Sprintf("%s %s %s", got[0].Text, got[1].Text, got[2].Text)
			if object := string(p.recordObject(b.Source.Schemas, framed(7, []byte(x.record)))); object != string(Mend([]byte(strings.TrimSpace(x.record)))) {
				t.Errorf("%s as JSON: %s", x.record, object)
			}
		}
		if is != x.want {
			t.Errorf("%s: %s, want %s", x.record, is, x.want)
		}
	}
}

func TestJSONSchemaFits(t *testing.T) {
	for declared, want := range map[string]string{"int": "", "float": "", "timestamp": "", "string": "field bytes is declared to be of type string, and is integer there"} {
		p := BySchema(KindJSONSchema).Typed(map[string]string{"bytes": declared, "user": "ip", "who.id": "bool"}).Projection(&Fields{}, nil)
		s := NewSchema(7, KindJSONSchema, loginJSONSchema, []Reference{{"https://acme.example/who.json", `{}`}})
		plan, err := p.records.find(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(plan.unfit); want == "" && plan.unfit != nil || want != "" && got != "schema 7 does not fit the stream: "+want {
			t.Errorf("%s: %s", declared, got)
		}
	}
	for _, text := range []string{`{"type":5}`, `{`, `{"$ref":"https://elsewhere.example/x.json"}`, `{"$ref":"file:///etc/passwd"}`} {
		_, _, _, err := recordCells(BySchema(KindJSONSchema), registered(NewSchema(7, KindJSONSchema, text, nil)), framed(7, []byte(`{}`)), nil)
		var unfit *Unfit
		if !errors.As(err, &unfit) || !strings.Contains(err.Error(), "it is no JSON Schema") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
